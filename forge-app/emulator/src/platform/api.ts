/** Emulates `@forge/api`: the two calls that the app makes. */
import { installed } from './installation';

export const webTrigger = {
  getUrl: (moduleKey: string): Promise<string> => {
    const url = installed().triggerUrls[moduleKey];
    if (url === undefined) return Promise.reject(new Error('Internal error occurred: Failed to get web trigger URL.'));
    return Promise.resolve(url);
  },
};

export function getAppContext(): { appAri: { appId: string; toString: () => string } } {
  const { appId } = installed();
  return { appAri: { appId, toString: () => `ari:cloud:ecosystem::app/${appId}` } };
}
