const MAX_LENGTH = 256
/** Of its JSON, which is what waits for Redis. */
const MAX_BYTES = 512
/** A token that begins in what is kept is seen as a whole; more would be work that a client can make us do. */
const LOOKED_AT = 4 * MAX_LENGTH
// A PAT or a JWT, whole or cut: a header can hold anything, a token pasted by mistake too. "compat_settings" and "monkeyjungle" are none.
export const TOKEN = /(?<![0-9A-Za-z])[Pp][Aa][Tt]_[0-9A-Za-z]{8,}|[Pp][Aa][Tt]_[0-9A-Fa-f]{8,}[0-9A-Za-z]*|eyJ[\w-]{8,}(?:\.[\w-]*){0,2}/
const TOKENS = new RegExp(TOKEN, 'g')
const TOO_SHORT_TO_TELL = /(?:[Pp][Aa][Tt]_[0-9A-Za-z]{0,7}|eyJ[\w-]{0,7})$/
// eslint-disable-next-line no-control-regex
const CONTROLS = /[\x00-\x1f\x7f-\x9f]/g
/** Bytes of one character in JSON, at most, without any of these. */
const LONGEST = 3

/** Text that a client or the host chose, fit for logs: of bounded length, and without what looks like a token. */
export function sanitize (text: string | undefined): string | undefined {
  if (text === undefined) return undefined
  const isCut = text.length > LOOKED_AT
  const looked = isCut ? text.slice(0, LOOKED_AT).replace(TOO_SHORT_TO_TELL, '') : text
  const kept = looked.replace(TOKENS, '[redacted]').replace(CONTROLS, '\ufffd')
  if (!isCut && kept.length <= MAX_BYTES / LONGEST) return kept
  let short = kept.slice(0, MAX_LENGTH)
  while (short.length > MAX_BYTES / LONGEST && Buffer.byteLength(JSON.stringify(short)) > MAX_BYTES) short = short.slice(0, -8)
  return Buffer.from(short).toString() // a slice would keep the whole text in memory
}
