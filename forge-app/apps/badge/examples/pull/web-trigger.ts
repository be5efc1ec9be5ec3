import { webTrigger } from '@forge/api';
import { parsePublicJwk, tenantId, verifyToken, type WebTriggerRequest } from 'forge-callback-verifier';

import { cloudIdOf, type InvocationContext } from '../../src/installation';
import { readOverview } from '../../src/overview';

/** The only scope of the outside service. */
export const READ_SCOPE = 'report:read';

interface DynamicResponse {
  readonly statusCode: number;
  readonly headers: Readonly<Record<string, readonly string[]>>;
  readonly body: string;
}

/** A web trigger for the outside service that holds the private half of the Forge variable READER_PUBLIC_KEY. */
export async function report(request: WebTriggerRequest, context: InvocationContext): Promise<DynamicResponse> {
  const cloudId = cloudIdOf(context) ?? '';
  const reader = parsePublicJwk(JSON.parse(process.env['READER_PUBLIC_KEY'] ?? 'null'));
  const verdict = await verifyToken(request, {
    backendUrl: process.env['READER_URL'] ?? '',
    cloudId,
    tenantId: async () => tenantId(cloudId, await webTrigger.getUrl('report')),
    keys: { [READ_SCOPE]: reader === undefined ? [] : [reader] },
    now: new Date(),
  });
  if (!verdict.ok) {
    console.warn(`report refused: ${verdict.reason}`);
    return respond(401, { code: 'UNAUTHORIZED' });
  }
  const { services, tick } = await readOverview();
  return respond(200, { tick, services: services.map(({ name, status, since }) => ({ name, status, since })) });
}

function respond(statusCode: number, value: object): DynamicResponse {
  return { statusCode, headers: { 'content-type': ['application/json'] }, body: JSON.stringify(value) };
}
