/**
 * The platform's side of Forge's bridge, in the browser: what `@forge/bridge` calls. Forge adds a script like this one to
 * the page of every Custom UI app. Here the page has no frame, and a navigation bar above it.
 */
type Call = (data: Record<string, unknown>) => Promise<unknown>;

const calls: Readonly<Record<string, Call>> = {
  getContext: () => callPlatform('context', {}),
  invoke: (data) => callPlatform('invoke', data),
  fetchProduct: (data) => callPlatform('jira', data),
  navigate: async ({ url }) => {
    const target = new URL(String(url), location.href);
    if (target.protocol !== 'https:' && target.protocol !== 'http:') throw new Error('only web addresses');
    if (target.origin === location.origin || (await confirmLeaving(target.host))) location.assign(target.href);
  },
};

async function callPlatform(what: string, data: Record<string, unknown>): Promise<unknown> {
  const response = await fetch(`/platform/${what}`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(data) });
  if (!response.ok) throw new Error(`the platform responded ${String(response.status)}`);
  return response.json();
}

/** Asks as Atlassian does before a page of an app leads elsewhere. */
function confirmLeaving(host: string): Promise<boolean> {
  const dialog = element('dialog', { 'aria-labelledby': 'leaving-title' });
  const title = element('h2', { id: 'leaving-title' }, 'You are leaving Atlassian');
  const text = element('p', {}, `This app wants to open ${host}.`);
  const stay = element('button', { type: 'button', class: 'secondary' }, 'Stay here');
  const go = element('button', { type: 'button' }, 'Continue');
  dialog.append(title, text, go, ' ', stay);
  document.body.append(dialog);
  return new Promise((decided) => {
    stay.addEventListener('click', () => dialog.close(''));
    go.addEventListener('click', () => dialog.close('go'));
    dialog.addEventListener('close', () => {
      dialog.remove();
      decided(dialog.returnValue === 'go');
    });
    dialog.showModal();
  });
}

function element<K extends keyof HTMLElementTagNameMap>(name: K, attributes: Record<string, string>, text = ''): HTMLElementTagNameMap[K] {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

document.addEventListener('DOMContentLoaded', () => {
  const bar = element('nav', { class: 'emulator-bar', 'aria-label': 'Forge emulator' });
  bar.append(element('span', {}, 'Forge emulator'), element('a', { href: '/health-monitor/', 'aria-current': 'page' }, 'Health Monitor'), element('a', { href: '/' }, 'Callbacks'));
  document.body.prepend(bar);
});

Object.assign(globalThis, {
  __bridge: {
    callBridge: (command: string, data: Record<string, unknown> = {}): Promise<unknown> => {
      const call = calls[command];
      return call === undefined ? Promise.reject(new Error(`the emulator has no ${command}`)) : call(data);
    },
  },
});
