import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createWriteStream, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { dirname } from 'node:path'
import { createInterface } from 'node:readline'
import { pipeline } from 'node:stream/promises'
import closeWithGrace from 'close-with-grace'
import { provideRedis } from '../example/redis.js'

/*
 * `npm test [files or options of tap]`: gives all test files one Redis, runs them with tap, and ends with a plain line
 * that counts the assertions.
 *
 * A few files that fail are run once more, alone. What passes then is called unsteady, with what had failed: a fault of
 * the test, or one of the plugin that shows itself seldom, and somebody has to find out which.
 */

const OUTPUT = '.tap/run.tap'
const OUTPUT_AGAIN = '.tap/again.tap'
/** More than that are no accident. */
const MOST_AGAIN = 3
const COVERAGE = '.tap/report/coverage-summary.json'

/** tap draws its progress anew all the time: for a terminal. Anything else gets one line for each file. */
const IN_TERMINAL = process.stdout.isTTY
const OF_A_FILE = /^(?:not )?ok \d+ - /

async function run (args: string[], env: NodeJS.ProcessEnv, to = OUTPUT): Promise<number> {
  rmSync(to, { force: true })
  mkdirSync(dirname(to), { recursive: true })
  const output = IN_TERMINAL ? ['--reporter=base', `--output-file=${to}`] : ['--reporter=tap']
  const child = spawn('tap', [...output, ...args], { stdio: ['inherit', IN_TERMINAL ? 'inherit' : 'pipe', 'inherit'], env })
  const ended = once(child, 'close')
  if (child.stdout !== null) {
    createInterface(child.stdout).on('line', (line) => { if (OF_A_FILE.test(line)) console.log(line) })
    await pipeline(child.stdout, createWriteStream(to))
  }
  const [code] = await ended
  return code ?? 1
}

/** Every line of the plugin is to be run by a test: of each file it is told where that is not so. */
const MIN_LINES_OF_FILE = 99
/** What fails. V8 counts lines as not run that only another build of a file has, and braces after endless loops. */
const MIN_LINES = 95

function checkCoverage (): number {
  const summary = JSON.parse(readFileSync(COVERAGE, 'utf8')) as Record<string, { lines: { total: number, covered: number, pct: number } }>
  const files = Object.entries(summary).filter(([file]) => /[/\\]plugin[/\\]/.test(file))
  for (const [file, { lines }] of files) if (lines.pct < MIN_LINES_OF_FILE) console.log(`not covered: ${(100 - lines.pct).toFixed(2)} % of the lines of ${file}`)
  const [covered, total] = (['covered', 'total'] as const).map((name) => files.reduce((sum, [, { lines }]) => sum + lines[name], 0)) as [number, number]
  const pct = 100 * covered / total
  if (pct < MIN_LINES) console.log(`${pct.toFixed(2)} % of the plugin's lines are run by a test, and ${MIN_LINES} % are asked for`)
  return pct < MIN_LINES ? 1 : 0
}

/** What failed, by name, with what tap says of it: at the end, where a log that was cut still shows it. */
function failuresOf (tap: string): string[] {
  return [...tap.matchAll(/^( *)not ok .*\n(?:\1 {2}---\n(?:.*\n)*?\1 {2}\.\.\.\n)?/gm)].map(([text]) => text.trimEnd())
}

function filesThatFailed (tap: string): string[] {
  return [...tap.matchAll(/^not ok \d+ - (\S+\.test\.ts)/gm)].map(([, file]) => file!)
}

function countsOf (tap: string): { passed: number, failed: number } {
  const summary = /^# \{ total: \d+(?:, pass: (\d+))?(?:, fail: (\d+))?(?:, (?:skip|todo): \d+)* \}$/m.exec(tap)
  return { passed: Number(summary?.[1] ?? 0), failed: Number(summary?.[2] ?? 0) }
}

const args = process.argv.slice(2)
const redis = await provideRedis()
closeWithGrace(() => redis.stop())
console.log(`Redis: ${redis.how}`)
const env = { ...process.env, TEST_REDIS_URL: redis.url }
let tapCode = 1
let unsteady: string[] = []
try {
  tapCode = await run(['--coverage-report=json-summary', ...args], env)
  const failed = filesThatFailed(readFileSync(OUTPUT, 'utf8'))
  if (args.length === 0 && failed.length > 0 && failed.length <= MOST_AGAIN) {
    console.log(`\nOnce more, alone: ${failed.join(', ')}`)
    tapCode = await run(['--disable-coverage', '--allow-empty-coverage', '--jobs=1', ...failed], env, OUTPUT_AGAIN)
    if (tapCode === 0) unsteady = failed
  }
} finally {
  await redis.stop()
}
const code = tapCode || (args.length === 0 ? checkCoverage() : 0)

const tap = readFileSync(OUTPUT, 'utf8')
const failures = failuresOf(tap)
if (unsteady.length > 0) console.log(`\nUnsteady: failed at first and passed alone: ${unsteady.join(', ')}`)
if (failures.length > 0) console.log([unsteady.length > 0 ? '\nWhat had failed:' : '\nNot ok:', ...failures].join('\n'))
else if (tapCode !== 0) console.log(`\ntap ended with code ${tapCode}`)
const { passed, failed } = countsOf(tap)
// What passed the second time has passed.
const stillFailed = unsteady.length > 0 ? 0 : failed
console.log(`\n${passed + failed - stillFailed} passed, ${code !== 0 && stillFailed === 0 ? 1 : stillFailed} failed`)
process.exit(code !== 0 || passed === 0 ? 1 : 0)
