// Keeps the compared trials in the address.
(compared) => {
  const address = new URL(location.href);
  if (compared) address.searchParams.set('compare', compared); else address.searchParams.delete('compare');
  history.replaceState(null, '', address);
}
