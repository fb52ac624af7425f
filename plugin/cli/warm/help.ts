import { optionHelp, portalEnvironment, wrapped } from '../help.js'
import type { OptionName } from '../options.js'

const PROGRAM = 'tooljet-embed-warm'

export function warmHelp (options: readonly OptionName[]): string {
  return `${PROGRAM}: mints URLs of ToolJet apps ahead of a rush, into the cache that a portal with
fastify-tooljet-embed reads.

Usage: ${PROGRAM} [options] FILE

${wrapped('FILE (- is standard input) has a pair of a user and an app on each line, as CSV with a header (email, and one of appId, appSlug, app) or as NDJSON ({"email": "ana@acme.io", "appSlug": "sales"}). Column app has an id or a slug; aliases of the portal are not known here.', 0)}

${wrapped('The portal finds what is cached only with the same Redis, ToolJet, keys and keyPrefix. Lifetimes have to be its own, too: a URL lives as long as --pat-expiry says, and the portal gives it no longer than its own patExpiry says.', 0)}

Options:
${[...options, 'help' as const].map(optionHelp).join('\n')}

Examples:
  # what is wrong in the file, and how many pairs it has
  ${PROGRAM} --dry-run monday.csv
  # for a portal with a patExpiry of 12 hours: what still lives for 10 costs no call
  ${PROGRAM} --pat-expiry 43200 --valid-for 10h monday.csv
  # from another program, ten calls in any minute for the portal and this one together
  list-users | ${PROGRAM} --mint-limit 10/1m --json -

${portalEnvironment('; of several keys, as in a rotation: --key-file')}

Exit codes:
  0  all pairs are cached
  1  some pairs failed; the first 20 are named, all with --json
  2  wrong usage: an argument, a variable, a line of FILE; nothing was done
  3  Redis or ToolJet cannot be reached at the start, or refuses
  70 a defect of this program
  130 stopped by Ctrl-C, after the calls under way (a second one ends it at once); run it again to go on
`
}
