const MAX_LENGTH = 256
/** Of the text as JSON, in which it waits for Redis. */
const MAX_BYTES = 512
/** Characters that are searched for tokens: enough for one that begins in what is kept, and no more work than that. */
const SEARCHED = 4 * MAX_LENGTH
// A PAT or a JWT, whole or cut: a header may have one by mistake. "compat_settings" and "monkeyjungle" are not tokens.
export const TOKEN = /(?<![0-9A-Za-z])[Pp][Aa][Tt]_[0-9A-Za-z]{8,}|[Pp][Aa][Tt]_[0-9A-Fa-f]{8,}[0-9A-Za-z]*|eyJ[\w-]{8,}(?:\.[\w-]*){0,2}/
const TOKENS = new RegExp(TOKEN, 'g')
const CUT_TOKEN = /(?:[Pp][Aa][Tt]_[0-9A-Za-z]{0,7}|eyJ[\w-]{0,7})$/
// eslint-disable-next-line no-control-regex
const CONTROLS = /[\x00-\x1f\x7f-\x9f]/g
/** Most bytes of one character in JSON, once control characters are replaced. */
const LONGEST = 3

/** Makes a text that a client or the host chose safe for logs: of bounded length, without tokens and control characters. */
export function sanitize (text: string | undefined): string | undefined {
  if (text === undefined) return undefined
  const isCut = text.length > SEARCHED
  const looked = isCut ? text.slice(0, SEARCHED).replace(CUT_TOKEN, '') : text
  const kept = looked.replace(TOKENS, '[redacted]').replace(CONTROLS, '\ufffd')
  if (!isCut && kept.length <= MAX_BYTES / LONGEST) return kept
  let short = kept.slice(0, MAX_LENGTH)
  while (short.length > MAX_BYTES / LONGEST && Buffer.byteLength(JSON.stringify(short)) > MAX_BYTES) short = short.slice(0, -8)
  return Buffer.from(short).toString() // a copy: a slice would keep the whole text in memory
}
