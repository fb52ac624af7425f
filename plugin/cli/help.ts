import type { Command } from './command.js'
import { OPTIONS, type OptionName } from './options.js'

const PROGRAM = 'tooljet-embed-audit'

const INDENT = 22
const WIDTH = 100

const EXIT_CODES = `Exit codes:
  0  fine
  1  verify found something wrong, or nothing to verify
  2  wrong usage: an argument, a key that is missing or not the one, a file that cannot be used
  3  Redis cannot be reached, refuses or does not answer
  70 a defect of this program`

const ENVIRONMENT = `Environment:
  REDIS_URL           where Redis is; --redis comes first
  TOOLJET_EMBED_ENCRYPTION_KEY, TOOLJET_API_TOKEN
                      the plugin's encryptionKey, or the API token that stands in for it: for verify, and for --email
                      in a log with pseudonyms; --key-file comes first
  NO_COLOR            no colour on a terminal
  NODE_EXTRA_CA_CERTS a file of certificates to trust, for rediss://`

/** Of commands that work as the portal does. @param key what they take its encryptionKey for */
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

export function overallHelp (commands: Record<string, Command>): string {
  return `${PROGRAM}: reads the audit log of fastify-tooljet-embed.

Usage: ${PROGRAM} <command> [options]

Commands:
${Object.entries(commands).map(([name, { summary }]) => `  ${name.padEnd(INDENT - 2)}${summary}`).join('\n')}

  ${'--help'.padEnd(INDENT - 2)}${OPTIONS.help.about}; ${PROGRAM} <command> --help tells more
  ${'--version'.padEnd(INDENT - 2)}${OPTIONS.version.about}

Examples:
${Object.values(commands).map(({ examples }) => `  ${PROGRAM} ${examples[0]!.line}`).join('\n')}

${ENVIRONMENT}

${EXIT_CODES}
`
}

export function commandHelp (name: string, { about, options, examples }: Command): string {
  return `${wrapped(`${PROGRAM} ${name}: ${about}`, 2)}

Usage: ${PROGRAM} ${name} [options]

Options:
${[...options, 'help' as const].map(optionHelp).join('\n')}

Examples:
${examples.map(({ what, line }) => `  # ${what}\n  ${PROGRAM} ${line}`).join('\n')}

${EXIT_CODES}
`
}

export function optionHelp (name: OptionName): string {
  const option = OPTIONS[name]
  const term = `  --${name}${option.value === undefined ? '' : ` ${option.value}`}`
  return wrapped(`${term.padEnd(INDENT)}${term.length < INDENT ? '' : '  '}${option.about}`, INDENT)
}

/** Lines that end before the edge; all but the first are indented. */
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
