/** Refreshes the emulator's own page without a reload, which would lose focus and scroll position. */
const EVERY_MS = 5000;

async function refresh(): Promise<void> {
  const response = await fetch(location.href);
  if (!response.ok) return;
  const fresh = new DOMParser().parseFromString(await response.text(), 'text/html').querySelector('main');
  const shown = document.querySelector('main');
  if (fresh !== null && shown !== null && fresh.innerHTML !== shown.innerHTML && !shown.contains(document.activeElement)) shown.replaceWith(fresh);
}

setInterval(() => {
  // Fails while the emulator restarts; the next attempt follows.
  refresh().catch(() => undefined);
}, EVERY_MS);
