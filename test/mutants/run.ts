import { spawn, type ChildProcess } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join, relative, sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { startServer } from '../../example/redis.js'
import { MUTANTS, type Mutant } from './mutants.js'

/*
 * `npm run mutants`: breaks the plugin in one way after the other, each in a copy of this repository, and tells which
 * breaks no test notices. `-- --only TEXT`: those with this text in their names; `-- --jobs N`: so many at a time.
 */

const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url))
/** For one run of a test file; a mutant that hangs is noticed, too. */
const BOUND_MS = 60_000
const LEFT_OUT = new Set(['node_modules', 'dist', 'coverage', '.git', '.tap'])

const { values: { only = '', jobs } } = parseArgs({ options: { only: { type: 'string' }, jobs: { type: 'string' } } })
const chosen = MUTANTS.filter(({ name }) => name.includes(only))

const folders: string[] = []
const running = new Set<ChildProcess>()
process.once('exit', () => {
  for (const child of running) end(child)
  for (const folder of folders) rmSync(folder, { recursive: true, force: true })
})
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))

/** A process with all that it has started. */
function end (child: ChildProcess): void {
  try {
    process.kill(-child.pid!, 'SIGKILL')
  } catch {
    // it has ended by itself
  }
}

/** Runs Node to its end, or to the bound's. @returns the exit code, none at the bound, and what it wrote */
async function node (cwd: string, args: string[], env: NodeJS.ProcessEnv = {}): Promise<{ code: number | undefined, output: string }> {
  const { REDIS_URL: _, ...inherited } = process.env
  const child = spawn(process.execPath, args, { cwd, env: { ...inherited, ...env }, detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
  running.add(child)
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => { output += String(chunk) })
  let isLate = false
  const timer = setTimeout(() => { isLate = true; end(child) }, BOUND_MS)
  const code = await new Promise<number>((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', () => end(child)) // what it may have left behind, and what holds its output open
    child.once('close', (code) => resolve(code ?? 1))
  })
  clearTimeout(timer)
  running.delete(child)
  return { code: isLate ? undefined : code, output }
}

/** @throws when what the mutant breaks is no longer there */
function broken ({ name, file, from, to }: Mutant, original: string): string {
  if (original.split(from).length !== 2) throw new Error(`stale mutant ${name}: its text is not in plugin/${file} just once`)
  return original.replace(from, () => to)
}

/** A copy of the repository, to break. */
class Copy {
  readonly #folder = mkdtempSync(join(tmpdir(), 'tooljet-embed-mutants-'))

  constructor () {
    folders.push(this.#folder)
    cpSync(REPOSITORY, this.#folder, { recursive: true, filter: (path) => !LEFT_OUT.has(relative(REPOSITORY, path).split(sep)[0]!) })
    symlinkSync(join(REPOSITORY, 'node_modules'), join(this.#folder, 'node_modules'))
  }

  async build (): Promise<void> {
    const { code, output } = await node(this.#folder, ['.ci/build.js'])
    if (code !== 0) throw new Error(`it does not build:\n${output}`)
  }

  /** Does something while a mutant is in place. */
  async with<T> (mutant: Mutant, action: () => Promise<T>): Promise<T> {
    const path = join(this.#folder, 'plugin', mutant.file)
    const original = readFileSync(path, 'utf8')
    writeFileSync(path, broken(mutant, original))
    const isServedBuilt = mutant.file.startsWith('browser/')
    try {
      if (isServedBuilt) await this.build()
      return await action()
    } finally {
      writeFileSync(path, original)
      if (isServedBuilt) await this.build()
    }
  }

  /**
   * @param test a file of test/, and after a colon how a test in it begins
   * @returns why it fails, whether this machine lacks what it needs; nothing: it passes
   */
  async outcome (test: string): Promise<{ failure?: string, isSkipped?: boolean }> {
    const [file, begin] = test.split(/: (.*)/) as [string, string?]
    const redis = await startServer()
    try {
      const { code, output } = await node(this.#folder, ['--import', 'tsx', `test/${file}.test.ts`], {
        TEST_REDIS_URL: redis.url,
        TAP_BAIL: '1',
        TAP_TIMEOUT: String(BOUND_MS / 1000),
        ...(begin !== undefined && { TAP_GREP: `^${begin.replace(/[.*+?^$()|[\]{}\\]/g, '\\$&')}` }),
      })
      if (code === undefined) return { failure: 'it does not end' }
      if (code !== 0) return { failure: /^ *not ok \d+ - (.*?)(?: # time=.*)?$/m.exec(output)?.[1]?.slice(0, 80) ?? 'it crashes' }
      if (/^ok \d+ - (?!.*# SKIP)/m.test(output)) return {}
      if (/# SKIP (?!filter)/.test(output)) return { isSkipped: true }
      throw new Error(`there is no test "${test}"`)
    } finally {
      await redis.stop()
    }
  }
}

/** Works through a list in as many copies as there are jobs. */
async function each<T> (copies: Copy[], items: readonly T[], work: (copy: Copy, item: T) => Promise<void>): Promise<void> {
  const rest = [...items]
  await Promise.all(copies.map(async (copy) => {
    for (let item = rest.shift(); item !== undefined; item = rest.shift()) await work(copy, item)
  }))
}

if (chosen.length === 0) throw new Error(`no mutant has "${only}" in its name`)
for (const mutant of chosen) broken(mutant, readFileSync(join(REPOSITORY, 'plugin', mutant.file), 'utf8'))
const copies = Array.from({ length: Math.min(Number(jobs ?? availableParallelism()), chosen.length) }, () => new Copy())
await Promise.all(copies.map((copy) => copy.build()))

// a test that fails anyway notices nothing
const failing: string[] = []
const skipped = new Set<string>()
await each(copies, [...new Set(chosen.flatMap(({ tests }) => tests))], async (copy, test) => {
  const { failure, isSkipped } = await copy.outcome(test)
  if (failure !== undefined) failing.push(`${test} (${failure})`)
  if (isSkipped) skipped.add(test)
})
if (failing.length > 0) throw new Error(`without any mutant fails:\n${failing.join('\n')}`)

const survivors: Mutant[] = []
let killed = 0
await each(copies, chosen, async (copy, mutant) => {
  const { name, why, equivalent } = mutant
  const tests = mutant.tests.filter((test) => !skipped.has(test))
  if (tests.length === 0) {
    console.log(`not run   ${name}: this machine lacks what ${mutant.tests.join(', ')} needs`)
    return
  }
  const seen = await copy.with(mutant, async () => {
    for (const test of tests) {
      const { failure } = await copy.outcome(test)
      if (failure !== undefined) return `${test} (${failure})`
    }
    return undefined
  })
  if (seen === undefined) survivors.push(mutant)
  else killed++
  console.log(seen !== undefined ? `killed    ${name}: ${seen}` : `survived  ${name}: ${equivalent === undefined ? why : `equivalent, ${equivalent}`}`)
})
console.log(`\n${killed} killed, ${survivors.length} survived`)
process.exit(survivors.some(({ equivalent }) => equivalent === undefined) ? 1 : 0)
