// Makes the app's hand-off key pair and prints the commands that install it on both sides.
import { createHash, generateKeyPairSync } from 'node:crypto';

const { privateKey } = generateKeyPairSync('ed25519');
const { kty, crv, x, d } = privateKey.export({ format: 'jwk' });
const kid = createHash('sha256').update(JSON.stringify({ crv, kty, x })).digest('base64url');
const publicJwks = JSON.stringify({ keys: [{ kty, crv, x, kid, alg: 'EdDSA', use: 'sig' }] });

console.log(`# A new hand-off key pair, kid ${kid}. Nothing was written to disk.

# 1. The private half, into the Forge app: encrypted, in this folder, once per environment.
forge variables set --encrypt HANDOFF_PRIVATE_KEY '${JSON.stringify({ kty, crv, x, d })}'
forge deploy

# 2. The public half, into the backend, in the folder above. A file, because JSON does not survive the quoting rules of
#    --parameter-overrides; parameters that it does not name keep their values.
cat > parameters.yaml <<'END'
ForgeAppPublicKey: '${publicJwks}'
END
sam deploy --parameter-overrides file://parameters.yaml

# Between the two steps, registrations are refused; checks and reports go on.
# The private key is in your terminal now: clear its history.`);
