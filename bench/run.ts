import { execFileSync } from 'node:child_process'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { audit } from './audit.js'
import { compare, CANDIDATES } from './candidates.js'
import { cacheSize } from './cache-size.js'
import { loginStorm } from './login-storm.js'
import { FULL, QUICK } from './plan.js'
import { profileTable } from './profile.js'
import { report } from './report.js'
import { describeMachine, type Results } from './results.js'
import { stampede } from './stampede.js'
import { Environment } from './environment.js'

/*
 * `npm run bench`: compares the plugin with other candidates and with a baseline.
 * --quick: only shows that all of it runs. --only name,name: some candidates or scenarios.
 * --profile: prints where each candidate's CPU time goes; the profiles stay in bench/profiles/.
 */

const SCENARIOS = ['stampede', 'cache-size', 'audit', 'login-storm']
const HERE = import.meta.dirname
const PROFILES = join(HERE, 'profiles')

const { values: options } = parseArgs({ options: { quick: { type: 'boolean', default: false }, only: { type: 'string' }, profile: { type: 'boolean', default: false } } })
const names = [...CANDIDATES.map(({ name }) => name), ...SCENARIOS]
const wanted = options.only?.split(',') ?? names
const unknown = wanted.filter((name) => !names.includes(name))
if (unknown.length > 0) {
  console.error(`--only has ${unknown.join(', ')}, expected some of ${names.join(', ')}`)
  process.exit(1)
}

const environment = new Environment(options.quick ? QUICK : FULL)
const end = (code: number): void => { environment.close().then(() => process.exit(code), () => process.exit(1)) }
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => {
    console.error(`stopped by ${signal}`)
    end(1)
  })
}
const bound = setTimeout(() => {
  console.error(`stopped: it has not ended within ${environment.plan.boundMs / 60_000} minutes`)
  end(1)
}, environment.plan.boundMs)

try {
  const results = await run()
  const isWhole = !options.quick && options.only === undefined && !options.profile
  writeFileSync(join(HERE, isWhole ? 'results.json' : 'results.partial.json'), `${JSON.stringify(results, undefined, 2)}\n`)
  console.log(report(results))
  await environment.close() // a server writes its profile when it ends
  if (options.profile) console.log(profileTable(PROFILES))
} catch (error) {
  console.error(error)
  process.exitCode = 1
} finally {
  clearTimeout(bound)
  await environment.close()
}
process.exit()

async function run (): Promise<Results> {
  const start = performance.now()
  build()
  const has = (name: string): boolean => wanted.includes(name)
  const redis = await environment.startRedis()
  const machine = await describeMachine(redis.client)
  const toolJet = await environment.startServer('tooljet', {})
  const candidates = CANDIDATES.filter(({ name }) => has(name))
  if (options.profile) {
    rmSync(PROFILES, { recursive: true, force: true })
    mkdirSync(PROFILES)
  }
  const measured = {
    ...(candidates.length > 0 && { candidates: await environment.withScope((inner) => compare(inner, redis, toolJet, candidates, options.profile ? PROFILES : undefined)) }),
    ...(has('stampede') && { stampede: await stampede(environment, redis) }),
    ...(has('cache-size') && { cacheSize: await cacheSize(environment, toolJet) }),
    ...(has('audit') && { audit: await audit(environment) }),
    ...(has('login-storm') && { loginStorm: await loginStorm(environment) }),
  }
  return { date: new Date().toISOString(), quick: options.quick, plan: environment.plan, machine, seconds: (performance.now() - start) / 1000, ...measured }
}

/** The servers run as users run them: compiled, and the plugin as it is shipped. */
function build (): void {
  execFileSync(process.execPath, [join(HERE, '../.ci/build.js')], { stdio: 'inherit' })
  const typescript = dirname(createRequire(import.meta.url).resolve('@typescript/native/package.json'))
  rmSync(join(HERE, 'dist'), { recursive: true, force: true })
  execFileSync(process.execPath, [join(typescript, 'bin', 'tsc'), '-p', join(HERE, 'tsconfig.json')], { stdio: 'inherit' })
}
