import { hkdfSync, scrypt } from 'node:crypto'
import { LRUCache } from 'lru-cache'

/** What a key is used for. One key reveals nothing about the keys of other purposes. */
export type KeyPurpose = 'key names' | 'urls' | 'audit' | 'audit identity' | 'tickets'

/** All keys that come from one secret. */
export interface SecretKeys {
  /** 32 bytes, the same in every process that has the secret. */
  keyFor (purpose: KeyPurpose): Buffer
}

const KEY_BYTES = 32
const SALT = 'fastify-tooljet-embed' // fixed: the secret is all that instances and commands share
const COST = { N: 2 ** 15, r: 8, p: 1 }
const SCRYPT = { ...COST, maxmem: 2 * 128 * COST.N * COST.r } // it needs slightly more than half of that, 32 MiB
const MAX_SECRETS = 8

const derived = new LRUCache<string, Promise<SecretKeys>>({ max: MAX_SECRETS })

/**
 * Derives the keys of a secret with scrypt: about 100 ms and 32 MiB, in a thread of its own, so that each guess at a weak
 * secret costs as much. Done once per secret: the results for the last 8 secrets are kept.
 */
export function deriveSecretKeys (secret: string): Promise<SecretKeys> {
  let keys = derived.get(secret)
  if (keys === undefined) {
    keys = stretch(secret)
    derived.set(secret, keys)
    keys.catch(() => derived.delete(secret))
  }
  return keys
}

/** The keys of several secrets for one purpose, in the same order. */
export async function deriveKeys (secrets: readonly string[], purpose: KeyPurpose): Promise<Buffer[]> {
  return (await Promise.all(secrets.map(deriveSecretKeys))).map((keys) => keys.keyFor(purpose))
}

function stretch (secret: string): Promise<SecretKeys> {
  return new Promise((resolve, reject) => {
    scrypt(secret, SALT, KEY_BYTES, SCRYPT, (error, root) => {
      if (error) return reject(error) // Bun: undefined where there is none
      resolve({ keyFor: (purpose) => Buffer.from(hkdfSync('sha256', root, SALT, purpose, KEY_BYTES)) })
    })
  })
}
