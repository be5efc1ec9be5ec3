/** Keeps the emulator's own page fresh without reloading it, so that readers keep their place. */
const EVERY_MS = 5000;

async function refresh(): Promise<void> {
  const response = await fetch(location.href);
  if (!response.ok) return;
  const fresh = new DOMParser().parseFromString(await response.text(), 'text/html').querySelector('main');
  const shown = document.querySelector('main');
  if (fresh !== null && shown !== null && fresh.innerHTML !== shown.innerHTML && !shown.contains(document.activeElement)) shown.replaceWith(fresh);
}

setInterval(() => {
  // While the emulator restarts there is nothing to fetch; the next time there is.
  refresh().catch(() => undefined);
}, EVERY_MS);
