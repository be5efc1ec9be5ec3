// Runs the verifier's tests under every supported Node version; npm packages contain the programs.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const verifier = fileURLToPath(new URL('..', import.meta.url));
const folder = `${verifier}node-versions`;
const vitest = join(dirname(createRequire(import.meta.url).resolve('vitest/package.json')), 'vitest.mjs');
const platform = `-${process.platform}-${process.arch}`;
const wanted = Object.entries(JSON.parse(readFileSync(`${folder}/package.json`, 'utf8')).optionalDependencies).filter(([name]) => name.endsWith(platform));

function installed([name, range]) {
  const file = `${folder}/node_modules/${name}/package.json`;
  return existsSync(file) && range.endsWith(`@${JSON.parse(readFileSync(file, 'utf8')).version}`);
}

function run(command, args, cwd = verifier) {
  const { status } = spawnSync(command, args, { cwd, stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
}

if (wanted.length === 0) {
  console.error(`npm has no Node for ${platform.slice(1)} in node-versions/package.json`);
  process.exit(1);
}
if (!wanted.every(installed)) run('npm', ['ci', '--no-audit', '--no-fund'], folder);
for (const [name] of wanted) {
  const node = `${folder}/node_modules/${name}/bin/node`;
  run(node, ['--print', '"\\nNode " + process.version']);
  run(node, [vitest, 'run']);
}
