/** Characters that steer a terminal: control characters, and invisible ones that change how others look. */
const ORDERS = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}]/gu
const PASSWORD = /\/\/\S*@/g

/** Makes any text safe for a terminal: characters that could steer it are shown by their codes. */
export function printable (text: string): string {
  return text.replace(ORDERS, (character) => {
    const code = character.codePointAt(0)!
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`
  })
}

/** A message for people, without the password that a URL in it may have. */
export function message (text: string): string {
  return printable(text.replace(PASSWORD, '//***@'))
}

/** JSON on one line; what could steer a terminal is escaped, which changes nothing for a parser. */
export function jsonLine (value: object): string {
  const json = JSON.stringify(value).replace(ORDERS, (character) => {
    return character.split('').map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`).join('')
  })
  return `${json}\n`
}

// East Asian characters and emoji have two columns, combining ones none.
const WIDE = /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|\p{Emoji_Presentation}/u
const COMBINING = /\p{M}/u
const PLAIN = /^[\x20-\x7e]*$/

function widthOfOne (character: string): number {
  if (COMBINING.test(character)) return 0
  return WIDE.test(character) ? 2 : 1
}

/** Columns of a text on a terminal. */
export function widthOf (text: string): number {
  if (PLAIN.test(text)) return text.length
  let width = 0
  for (const character of text) width += widthOfOne(character)
  return width
}

/** Text of exactly that many columns: cut with an ellipsis, or padded. */
export function fitted (text: string, width: number): string {
  const missing = width - widthOf(text)
  if (missing >= 0) return text + ' '.repeat(missing)
  let kept = ''
  let room = width - 1
  for (const character of text) {
    room -= widthOfOne(character)
    if (room < 0) break
    kept += character
  }
  return `${kept}…${' '.repeat(width - 1 - widthOf(kept))}`
}

/** A whole number with thousands separators. */
export function grouped (count: number): string {
  return String(count).replace(/\B(?=(?:\d{3})+$)/g, ',')
}

export function plural (count: number, thing: string, things = `${thing}s`): string {
  return `${grouped(count)} ${count === 1 ? thing : things}`
}
