import type { AuditReader } from '../../audit/reader.js'
import { errorCodes } from '../../errors.js'
import { UsageError } from '../errors.js'

const PREFIX = 'TOOLJET_EMBED_'
/** The codes in the log of errors without a code, with a status or without. */
const NO_CODE = /^(?:HTTP_[45]\d\d|ERROR)$/
const OWN = Object.keys(errorCodes)

/** One of the plugin's codes in its full spelling; any other as it is. @param given in any case, with or without its prefix */
export function fullCode (given: string): string {
  const code = given.toUpperCase()
  return OWN.find((own) => own === code || own === PREFIX + code) ?? given
}

/**
 * Refuses a code that no event can have: "no event matches" would be a false all-clear. A code that is neither the plugin's
 * nor in Fastify's list has to be in the log.
 * @throws UsageError with the plugin's codes
 */
export async function assertKnownCode (code: string, reader: AuditReader): Promise<void> {
  if (OWN.includes(code) || NO_CODE.test(code) || await isOfFastify(code)) return
  const { done } = await reader.all({ code }, 'desc', { limit: 1 }).next()
  if (done !== true) return
  throw new UsageError(`--code is "${code}", which is no code of fastify-tooljet-embed, and no event in the log has it; there are ${OWN.map((own) => own.slice(PREFIX.length)).join(', ')} (with or without ${PREFIX}, in any case)`)
}

async function isOfFastify (code: string): Promise<boolean> {
  if (!code.startsWith('FST_ERR_')) return false
  const { errorCodes: ofFastify } = await import('fastify')
  return Object.hasOwn(ofFastify, code)
}
