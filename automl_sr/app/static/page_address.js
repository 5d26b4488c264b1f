// Keeps study, trial and open tab in the address; the first tab is not named.
(study, trial, tab) => {
  const address = new URL(location.href);
  const parts = {study, trial, tab: tab === 'studies' ? null : tab};
  for (const [name, value] of Object.entries(parts))
    if (value === null || value === undefined || value === '') address.searchParams.delete(name);
    else address.searchParams.set(name, value);
  history.replaceState(null, '', address);
}
