import { optionHelp, portalEnvironment, wrapped } from '../help.js'
import type { OptionName } from '../options.js'

const PROGRAM = 'tooljet-embed-doctor'

export function doctorHelp (options: readonly OptionName[]): string {
  return `${PROGRAM}: tells whether a ToolJet and a Redis are fit for fastify-tooljet-embed.

Usage: ${PROGRAM} [options]

${wrapped('Nothing is changed but for those who are named: PATs of --user and --outsider are minted, some for each of them, which live a minute (an hour where ToolJet counts in minutes). Where ToolJet has one token for each app, that ends the sessions of all who have the app open: call it then at a quiet hour. Every mint counts for ToolJet\'s limit.', 0)}

Options:
${[...options, 'help' as const].map(optionHelp).join('\n')}

Examples:
  # address, token, edition, page; Redis; the law of capacity
  ${PROGRAM} --pairs 2000
  # and what ToolJet does with tokens, of an app that Ana and Ben may open, and Cleo may not
  ${PROGRAM} --user ana@acme.io --user ben@acme.io --outsider cleo@acme.io --opens sales

${portalEnvironment(': only whether there is one')}

Exit codes:
  0  nothing is wrong
  1  something is wrong, and what to do is said
  2  wrong usage: an argument, a variable
  3  Redis or ToolJet cannot be reached
  70 a defect of this program
`
}
