// Links, so that keys reach them and a study can be opened in a tab of its own; here a click selects
// without a reload.
element.addEventListener('click', event => {
  const link = event.target.closest('tr')?.querySelector('a[data-study]');
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || getSelection().type === 'Range') return;
  event.preventDefault();
  trigger('select', {study: link.dataset.study});
});
function mark() {
  for (const link of element.querySelectorAll('a[data-study]')) {
    const chosen = link.dataset.study === props.chosen;
    link.closest('tr').classList.toggle('chosen', chosen);
    if (chosen) link.setAttribute('aria-current', 'true');
    else link.removeAttribute('aria-current');
  }
}
mark();
watch(['value', 'chosen'], mark);
