import { readFileSync } from 'node:fs'
import type { Pseudonyms } from '../audit/pseudonyms.js'
import { deriveKeys } from '../crypto/secret-keys.js'
import { fileError, UsageError } from './errors.js'
import type { ParsedOptions } from './options.js'

/**
 * The plugin's `encryptionKey`, from a file or the environment: an argument could be read by everyone with ps.
 * @returns the current key first; an empty list when there is none
 * @throws UsageError when the file cannot be read, or holds none
 */
export function secretsOf (given: ParsedOptions, env: NodeJS.ProcessEnv): string[] {
  const file = given['key-file']
  if (file !== undefined) return secretsIn(file)
  const secret = env['TOOLJET_EMBED_ENCRYPTION_KEY'] || env['TOOLJET_API_TOKEN']
  return secret ? [secret] : []
}

function secretsIn (file: string): string[] {
  let lines: string[]
  try {
    lines = readFileSync(file, 'utf8').split(/\r?\n/)
  } catch (error) {
    throw fileError(file, error)
  }
  const secrets = lines.filter((line) => line !== '')
  if (secrets.length === 0) throw new UsageError(`--key-file: there is no key in ${file}, expected one key on each line, the current one first`)
  return secrets
}

/** With a key people are found in a log with pseudonyms, too. */
export async function pseudonymsOf (given: ParsedOptions, env: NodeJS.ProcessEnv): Promise<Pseudonyms | undefined> {
  if (given.email === undefined) return undefined
  const secrets = secretsOf(given, env)
  if (secrets.length === 0) return undefined
  const { Pseudonyms } = await import('../audit/pseudonyms.js')
  return new Pseudonyms(await deriveKeys(secrets, 'audit identity'))
}
