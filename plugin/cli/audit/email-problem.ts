import { normalizeEmail } from '../../access/identity.js'
import { fieldsOf } from '../../audit/event.js'
import { EventSigner } from '../../audit/signer.js'
import { deriveKeys } from '../../crypto/secret-keys.js'
import type { Context } from './command.js'
import type { Connection } from '../connection.js'
import { secretsOf } from '../secrets.js'

/** How many of the newest events are checked for pseudonyms. */
const LOOKED_AT = 250
const PSEUDONYM = 'hmac:'

/**
 * Why `--email` can find nobody: in a log with pseudonyms it needs the right key.
 * @returns nothing when people can be found
 */
export async function emailProblem ({ given, env, stream }: Pick<Context, 'given' | 'env' | 'stream'>, connection: Connection): Promise<string | undefined> {
  if (given.email === undefined || normalizeEmail(given.email).startsWith(PSEUDONYM)) return undefined
  const newest = await connection.call('XREVRANGE', stream, '+', '-', 'COUNT', LOOKED_AT) as [id: string, flat: string[]][]
  const nameless = newest.filter(([, flat]) => fieldsOf(flat)['email']?.startsWith(PSEUDONYM) === true)
  if (nameless.length === 0) return undefined
  const secrets = secretsOf(given, env)
  if (secrets.length === 0) return 'this log does not name people: --email needs the key that the plugin has, in --key-file, TOOLJET_EMBED_ENCRYPTION_KEY or TOOLJET_API_TOKEN'
  const signer = new EventSigner(await deriveKeys(secrets, 'audit'), given.name ?? stream)
  if (nameless.some(([, flat]) => signer.verify(flat) !== undefined)) return undefined
  return 'this log does not name people, and the key is not the one of its newest events (for a log that was renamed give --name, too)'
}
