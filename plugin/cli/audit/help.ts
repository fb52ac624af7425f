import { INDENT, optionHelp, wrapped } from '../help.js'
import { OPTIONS } from '../options.js'
import type { Command } from './command.js'

const PROGRAM = 'tooljet-embed-audit'

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
