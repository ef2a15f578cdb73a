// The names that a screen reader speaks for the theme's buttons are made to hold the text that stands on them.
for (const button of document.querySelectorAll('.search-button-field')) button.setAttribute('aria-label', 'Search Ctrl+K');
for (const button of document.querySelectorAll('.theme-switch-button')) {
  const tidy = () => {
    for (const icon of button.querySelectorAll('[title]')) icon.removeAttribute('title');
    for (const title of button.querySelectorAll('svg title')) title.remove();
  };
  new MutationObserver(tidy).observe(button, { childList: true, subtree: true }); // icons become drawings later on
  tidy();
}
// A folded cell is called by the words that stand on it.
for (const summary of document.querySelectorAll('details.hide > summary')) summary.removeAttribute('aria-label');
// Entries of the bibliography are read as plain text: the roles that docutils gives them are out of date.
for (const entry of document.querySelectorAll('.citation-list, .citation-list > .citation')) entry.removeAttribute('role');
