// Puts the number of this event, counted by the page, in the place of the first input.
(_, ...others) => {
  window.eventsCounted = (window.eventsCounted ?? 0) + 1;
  return [window.eventsCounted, ...others];
}
