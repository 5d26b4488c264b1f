// Tells tabs to be filled anew: gives each of `tabs`, which are [id, names of what it follows], a text
// that changes with what it follows, if the tab is the one that is opened, or `always` is its id. In the
// browser: every call of the server that is not made is a page that answers sooner.
(tabs, always) => (opened, study, trial, version, ...cues) => {
  const now = {study, trial, version};
  return tabs.map(([id, follows], place) =>
    id === opened || id === always ? JSON.stringify(follows.map(name => now[name])) : cues[place]);
}
