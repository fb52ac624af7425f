import { parseArgs } from 'node:util'
import { isEntryId } from '../audit/reader.js'
import { UsageError } from './errors.js'
import { TIMES } from './times.js'

interface Option {
  /** What stands for its value in the help; without one it is a flag. */
  value?: string
  about: string
}

const TABLE = {
  redis: { value: 'URL', about: 'redis://[user:password@]host[:port][/db], rediss:// with TLS; default: REDIS_URL, else redis://127.0.0.1:6379' },
  stream: { value: 'KEY', about: 'the audit stream; default: tooljet-embed:audit' },
  name: { value: 'KEY', about: 'the name that the stream had when its events were written; default: --stream' },
  json: { about: 'NDJSON: a line of JSON for each result' },
  email: { value: 'EMAIL', about: 'of this user' },
  app: { value: 'APP', about: 'of this app: alias, id or slug as in the log' },
  event: { value: 'EVENT', about: 'url.minted, url.reused, url.denied, url.limited, url.failed, url.forgotten, url.warmed, audit.opened or audit.closed' },
  outcome: { value: 'OUTCOME', about: 'success or failure' },
  code: { value: 'CODE', about: 'with this error code, in any case, with or without its TOOLJET_EMBED_; another one\'s (FST_ERR_VALIDATION) in its own spelling' },
  ip: { value: 'ADDRESS', about: 'from this IP address' },
  'url-id': { value: 'ID', about: 'about this URL' },
  since: { value: 'TIME', about: `from then on: ${TIMES}` },
  until: { value: 'TIME', about: 'before then' },
  limit: { value: 'N', about: 'at most so many; default: 100' },
  order: { value: 'ORDER', about: 'desc (the newest first, the default) or asc' },
  after: { value: 'ID', about: 'go on after the event with this id' },
  last: { value: 'N', about: 'show the newest N first; default: 0' },
  by: { value: 'GROUP', about: 'email, app, event, code or hour, or two of them: hour,app; default: event' },
  users: { about: 'count users, too: every event is looked at, not the counters' },
  out: { value: 'FILE', about: 'append to this file, and go on after the last event that was exported to it' },
  state: { value: 'FILE', about: 'where to keep the id of that event; default: FILE.state beside the output' },
  format: { value: 'FORMAT', about: 'ndjson (the fields as they are, the default) or ecs (Elastic Common Schema)' },
  log: { value: 'FILE...', about: 'hold the log against the app\'s own: files of lines of JSON as pino writes them, gzip too' },
  retention: { value: 'DAYS', about: 'how long events are kept, like 90d (0d: for ever); default: what the log says of itself' },
  'max-entries': { value: 'N', about: 'how many entries are kept (0: any number); default: what the log says of itself' },
  'key-file': { value: 'FILE', about: 'the plugin\'s encryptionKey, one key on each line, the current one first; default: the one of the environment' },
  'valid-for': { value: 'TIME', about: 'what is cached for as long as this, like 10h, costs no call; less than --pat-expiry; default: --min-remaining' },
  'pat-expiry': { value: 'SECONDS', about: 'patExpiry of the portal; default: 3600' },
  'session-expiry': { value: 'MINUTES', about: 'sessionExpiry of the portal; default: 60' },
  'min-remaining': { value: 'SECONDS', about: 'minRemaining of the portal; default: 60, or a tenth of --pat-expiry if that is less' },
  'key-prefix': { value: 'PREFIX', about: 'keyPrefix of the portal, which is the start of --stream, too, if that is not given; default: tooljet-embed:' },
  'mint-limit': { value: 'LIMIT', about: 'tooljet.mintLimit of the portal: auto (the default), none, or like 10/1m: ten in any minute' },
  'check-access': { about: 'the portal has tooljet.checkAccess: true' },
  pseudonyms: { about: 'the portal has audit.identity: \'hmac\': events do not name people' },
  user: { value: 'EMAIL...', about: 'whose PATs may be minted; a second one tells whether a mint for one user ends the sessions of others' },
  opens: { value: 'APP...', about: 'apps that --user may open: ids or slugs' },
  outsider: { value: 'EMAIL', about: 'a user who may not open the first app: tells where ToolJet looks at that' },
  pairs: { value: 'N', about: 'how many pairs of a user and an app are in use at the same time' },
  'dry-run': { about: 'check FILE and count its pairs, and call nothing' },
  help: { about: 'this text' },
  version: { about: 'the version of fastify-tooljet-embed' },
} satisfies Record<string, Option>

export type OptionName = keyof typeof TABLE

export const OPTIONS: Readonly<Record<OptionName, Option>> = TABLE

/** Options that may be there more than once, with one value or more each. */
const LISTS = ['log', 'user', 'opens'] as const

type ListName = typeof LISTS[number]

/** Options as they were given; those without a value are ''. */
export type ParsedOptions = { [name in Exclude<OptionName, ListName>]?: string } & { [name in ListName]?: string[] }

/**
 * @param known the options of this command, `help` besides
 * @throws UsageError that names what is wrong and what was expected
 */
export function parseOptions (args: string[], known: readonly OptionName[], command?: string): { given: ParsedOptions, positionals: string[] } {
  const names: readonly OptionName[] = [...known, 'help']
  const options = Object.fromEntries(names.map((name) => {
    const type = OPTIONS[name].value === undefined ? 'boolean' as const : 'string' as const
    return [name, name === 'help' ? { type, short: 'h' } : { type }]
  }))
  // not strict: its messages would repeat whole arguments, and not name the options that there are
  const { tokens } = parseArgs({ args, options, strict: false, allowPositionals: true, tokens: true })
  const given: ParsedOptions = {}
  const positionals: string[] = []
  let list = positionals
  for (const token of tokens) {
    if (token.kind === 'positional') list.push(token.value)
    if (token.kind !== 'option') continue
    const name = names.find((known) => known === token.name)
    if (name === undefined) {
      throw new UsageError(`unknown option ${token.rawName}, expected one of ${names.map((known) => `--${known}`).join(', ')}`, command)
    }
    const problem = given[name] === undefined || isList(name) ? problemWith(name, token) : 'is there twice'
    if (problem !== undefined) throw new UsageError(`--${name} ${problem}`, command)
    if (isList(name)) {
      list = given[name] ??= []
      list.push(token.value!)
    } else {
      list = positionals
      given[name] = token.value ?? ''
    }
  }
  return { given, positionals }
}

function problemWith (name: OptionName, { value, inlineValue }: { value: string | undefined, inlineValue: boolean | undefined }): string | undefined {
  const option = OPTIONS[name]
  if (option.value === undefined) return value === undefined ? undefined : 'takes no value'
  const isMissing = value === undefined || value === '' || (inlineValue !== true && value.startsWith('-'))
  return isMissing ? `has no value, expected ${option.value}: ${option.about}` : undefined
}

function isList (name: OptionName): name is ListName {
  return LISTS.some((list) => list === name)
}

/** @throws UsageError */
export function wholeNumber (given: ParsedOptions, name: 'limit' | 'last' | 'pairs' | 'max-entries' | 'pat-expiry' | 'session-expiry' | 'min-remaining', least: number): number | undefined {
  const value = given[name]
  if (value === undefined) return undefined
  const number = /^\d+$/.test(value) ? Number(value) : NaN
  if (Number.isSafeInteger(number) && number >= least) return number
  throw new UsageError(`--${name} is "${value}", expected a whole number, ${least} or more`)
}

/** @throws UsageError */
export function days (given: ParsedOptions, name: 'retention'): number | undefined {
  const value = given[name]
  if (value === undefined) return undefined
  const [, number] = /^(\d{1,6}(?:\.\d{1,6})?)d$/.exec(value) ?? []
  if (number !== undefined) return Number(number)
  throw new UsageError(`--${name} is "${value}", expected a number of days, like 90d`)
}

/** @throws UsageError */
export function oneOf<T extends string> (given: ParsedOptions, name: 'format', allowed: readonly [T, ...T[]]): T {
  const value = given[name] ?? allowed[0]
  const found = allowed.find((one) => one === value)
  if (found !== undefined) return found
  throw new UsageError(`--${name} is "${value}", expected one of ${allowed.join(', ')}`)
}

/** @throws UsageError */
export function eventId (given: ParsedOptions): string | undefined {
  const { after } = given
  if (after === undefined || isEntryId(after) || isEntryId(`${after}-0`)) return after
  throw new UsageError(`--after is "${after}", expected the id of an event, like 1767225600000-0`)
}
