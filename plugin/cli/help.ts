import { OPTIONS, type OptionName } from './options.js'

/** Where the text beside an option begins. */
export const INDENT = 22
const WIDTH = 100

/** Environment of the commands that need the portal's settings. @param key what is special about its encryptionKey */
export function portalEnvironment (key: string): string {
  return `Environment, as of the portal:
  TOOLJET_URL, TOOLJET_API_TOKEN, REDIS_URL
                      needed
  TOOLJET_EMBED_ORIGINS
                      tooljet.embedOrigins, with commas between them
  ENCRYPTION_KEY, TOOLJET_EMBED_ENCRYPTION_KEY
                      encryptionKey${key}
  NODE_EXTRA_CA_CERTS a file of certificates to trust`
}

export function optionHelp (name: OptionName): string {
  const option = OPTIONS[name]
  const term = `  --${name}${option.value === undefined ? '' : ` ${option.value}`}`
  return wrapped(`${term.padEnd(INDENT)}${term.length < INDENT ? '' : '  '}${option.about}`, INDENT)
}

/** Wraps a text at 100 columns; all lines but the first are indented. */
export function wrapped (text: string, indent: number): string {
  const lines = ['']
  for (const word of text.split(/(?<=\S) /)) {
    const line = lines.at(-1)!
    if (line === '') lines[lines.length - 1] = word
    else if (line.length + 1 + word.length > WIDTH) lines.push(' '.repeat(indent) + word)
    else lines[lines.length - 1] = `${line} ${word}`
  }
  return lines.join('\n')
}
