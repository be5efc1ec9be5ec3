/** The real program, as `make dev` runs it, with a state folder of its own. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const PROGRAM = fileURLToPath(new URL('../../dist/emulator.mjs', import.meta.url));

export class EmulatorProcess {
  private readonly state = mkdtempSync(join(tmpdir(), 'emulator-'));
  private process: ChildProcess | undefined;
  url = '';

  constructor(private readonly backendUrl: string) {}

  /** Listens on a port that was free a moment ago; after a stop on the same one, since the trigger's URL contains it. */
  async start(): Promise<void> {
    if (this.url === '') {
      const probe = createServer();
      this.url = await listening(probe);
      await new Promise((closed) => probe.close(closed));
    }
    const environment = { ...process.env, STATE_DIR: this.state, BACKEND_URL: `${this.backendUrl}/`, EMULATOR_PORT: new URL(this.url).port };
    const started = spawn(process.execPath, [PROGRAM], { env: environment, stdio: ['ignore', 'pipe', 'inherit'] });
    this.process = started;
    await said(started, 'public key is pinned');
  }

  /** @returns the exit code after SIGTERM */
  async stop(): Promise<number | null> {
    if (this.process === undefined) return null;
    this.process.kill('SIGTERM');
    const [code] = (await once(this.process, 'exit')) as [number | null];
    this.process = undefined;
    return code;
  }

  publicKeys(): string {
    return spawnSync(process.execPath, [PROGRAM, 'keys'], { env: { ...process.env, STATE_DIR: this.state }, encoding: 'utf8' }).stdout;
  }

  remove(): void {
    rmSync(this.state, { recursive: true });
  }
}

/** @returns the server's origin */
export async function listening(server: Server): Promise<string> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `http://127.0.0.1:${String((server.address() as AddressInfo).port)}`;
}

/** Waits for words on the program's output, which keeps flowing afterwards. */
function said(program: ChildProcess, words: string): Promise<void> {
  let heard = '';
  return new Promise((resolve, reject) => {
    program.once('exit', () => reject(new Error(`ended after: ${heard}`)));
    program.stdout?.on('data', (chunk) => {
      heard += String(chunk);
      if (heard.includes(words)) resolve();
    });
  });
}
