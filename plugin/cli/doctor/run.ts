import { APP_ID, APP_SLUG } from '../../access/apps.js'
import { parseEmail } from '../../access/identity.js'
import type { Target } from '../../tooljet/target.js'
import { EXIT, UsageError } from '../errors.js'
import { parseOptions, wholeNumber, type ParsedOptions, type OptionName } from '../options.js'
import type { Output } from '../output.js'
import { portalSettingsOf, type PortalSettings } from '../portal-settings.js'
import { runProgram, writeVersion, type Program, type Io } from '../run-program.js'
import type { Finding } from './finding.js'
import { Report } from './report.js'

const OPTION_NAMES: OptionName[] = ['user', 'opens', 'outsider', 'pairs', 'check-access', 'pat-expiry', 'min-remaining', 'mint-limit', 'key-prefix', 'stream', 'key-file', 'json', 'version']

export const run: Program = (args, io) => runProgram('tooljet-embed-doctor', io, (out) => runDoctor(args, out, io))

async function runDoctor (args: string[], out: Output, { env }: Io): Promise<number> {
  const { given, positionals } = parseOptions(args, OPTION_NAMES)
  if (given.version !== undefined) return writeVersion(out)
  if (given.help !== undefined) {
    const { doctorHelp } = await import('./help.js')
    await out.write(doctorHelp(OPTION_NAMES))
    return EXIT.fine
  }
  if (positionals.length > 0) throw new UsageError(`unexpected argument "${positionals[0]}", there are options only`)
  const settings = portalSettingsOf(given, env)
  const report = new Report(out, { isJson: given.json !== undefined, secrets: secretsIn(settings) })
  for await (const finding of examine(settings, given, env)) await report.add(finding)
  return report.end()
}

function secretsIn ({ options, resolved }: PortalSettings): string[] {
  const { username, password } = new URL(options.redis)
  const { apiToken } = resolved.tooljet as Target
  return [apiToken, password, decodeURIComponent(password), ...[options.encryptionKey ?? []].flat()].filter((secret) => secret !== username)
}

async function * examine ({ resolved }: PortalSettings, given: ParsedOptions, env: NodeJS.ProcessEnv): AsyncGenerator<Finding> {
  const people = peopleOf(given)
  const pairs = wholeNumber(given, 'pairs', 1)
  const { redis, keyPrefix, audit, redisTimeoutMs, lifetimes } = resolved
  const { url, apiToken, embedOrigins, timeoutMs, mintLimit } = resolved.tooljet as Target

  const { examineEnvironment } = await import('./checks/environment.js')
  yield * examineEnvironment(env, given['key-file'] !== undefined || Boolean(env['ENCRYPTION_KEY'] || env['TOOLJET_EMBED_ENCRYPTION_KEY']))

  const { ToolJetCalls } = await import('./tooljet-calls.js')
  const { examineToolJet } = await import('./checks/tooljet.js')
  const calls = new ToolJetCalls({ url, apiToken, timeoutMs })
  if (yield * examineToolJet(calls, url, embedOrigins)) {
    const { examinePeople } = await import('./checks/people.js')
    yield * examinePeople(calls, { ...people, embedOrigins, checksAccess: given['check-access'] !== undefined })
  }

  const { examineRedis } = await import('./checks/redis.js')
  yield * examineRedis({ url: String(redis), keyPrefix, stream: audit.stream, timeoutMs: redisTimeoutMs })

  const { examineCapacity } = await import('./checks/capacity.js')
  yield * examineCapacity(mintLimit, lifetimes, pairs)
}

/** @throws UsageError */
function peopleOf (given: ParsedOptions): { users: string[], outsider: string | undefined, apps: string[] } {
  const { user: users = [], opens: apps = [], outsider } = given
  for (const [name, address] of [...users.map((address) => ['user', address] as const), ...(outsider === undefined ? [] : [['outsider', outsider] as const])]) {
    if (parseEmail(address) === undefined) throw new UsageError(`--${name} is "${address}", expected an e-mail address`)
  }
  for (const app of apps) {
    if (!APP_ID.test(app) && !APP_SLUG.test(app)) throw new UsageError(`--opens has "${app}", expected ids or slugs of apps`)
  }
  return { users, outsider, apps }
}
