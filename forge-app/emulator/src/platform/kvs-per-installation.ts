/** Emulates `@forge/kvs` for many installations in one process: each has its own store, as on the platform. */
import { type Installation, installed } from './installation';
import { LocalKvs } from './kvs';

export { ForgeKvsAPIError, ForgeKvsError } from './kvs';

const stores = new WeakMap<Installation, LocalKvs>();

function own(): LocalKvs {
  const installation = installed();
  const store = stores.get(installation) ?? new LocalKvs();
  stores.set(installation, store);
  return store;
}

export const kvs: Pick<LocalKvs, 'get' | 'set' | 'delete' | 'getSecret' | 'setSecret' | 'deleteSecret'> = {
  get: (key) => own().get(key),
  set: (key, value, options) => own().set(key, value, options),
  delete: (key) => own().delete(key),
  getSecret: (key) => own().getSecret(key),
  setSecret: (key, value, options) => own().setSecret(key, value, options),
  deleteSecret: (key) => own().deleteSecret(key),
};
export default kvs;
