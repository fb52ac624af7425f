import { randomBytes } from 'node:crypto'
import { request } from 'undici'
import type { Settings } from './serve.js'

/* Shared by the candidates that cache URLs without the plugin. */

export const LIFE_SECONDS = 3600

export interface CachedUrl {
  redirectUrl: string
  urlId: string
  /** ISO 8601. */
  expiresAt: string
}

export async function mint ({ toolJetUrl, apiToken }: Settings, email: string, appId: string): Promise<CachedUrl> {
  const { statusCode, body } = await request(`${toolJetUrl}/api/ext/users/personal-access-token`, {
    method: 'POST',
    headers: { authorization: `Basic ${apiToken}`, 'content-type': 'application/json' },
    body: JSON.stringify({ email, appId, patExpiry: LIFE_SECONDS, sessionExpiry: 60 }),
  })
  const { redirectUrl } = await body.json() as { redirectUrl: string }
  if (statusCode !== 201) throw new Error(`ToolJet answered with ${statusCode}`)
  return { redirectUrl, urlId: randomBytes(12).toString('base64url'), expiresAt: new Date(Date.now() + LIFE_SECONDS * 1000).toISOString() }
}

/** The same JSON as the plugin's. */
export function answer ({ redirectUrl, urlId, expiresAt }: CachedUrl, source: 'minted' | 'reused') {
  return { redirectUrl, urlId, source, expiresAt, expiresIn: Math.floor((Date.parse(expiresAt) - Date.now()) / 1000) }
}

/** Compiled by Fastify into a validator and a serializer. */
export const SCHEMA = {
  body: {
    type: 'object',
    properties: { email: { type: 'string' }, appId: { type: 'string' } },
    required: ['appId'],
  },
  response: {
    200: {
      type: 'object',
      properties: {
        redirectUrl: { type: 'string' },
        urlId: { type: 'string' },
        source: { type: 'string' },
        expiresAt: { type: 'string' },
        expiresIn: { type: 'integer' },
      },
    },
  },
}
