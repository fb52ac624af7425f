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
 */

const OUTPUT = '.tap/run.tap'
const COVERAGE = '.tap/report/coverage-summary.json'

/** tap draws its progress anew all the time: for a terminal. Anything else gets one line for each file. */
const IN_TERMINAL = process.stdout.isTTY
const OF_A_FILE = /^(?:not )?ok \d+ - /

async function run (args: string[], env: NodeJS.ProcessEnv): Promise<number> {
  const output = IN_TERMINAL ? ['--reporter=base', `--output-file=${OUTPUT}`] : ['--reporter=tap']
  const child = spawn('tap', [...output, ...args], { stdio: ['inherit', IN_TERMINAL ? 'inherit' : 'pipe', 'inherit'], env })
  const ended = once(child, 'close')
  if (child.stdout !== null) {
    createInterface(child.stdout).on('line', (line) => { if (OF_A_FILE.test(line)) console.log(line) })
    await pipeline(child.stdout, createWriteStream(OUTPUT))
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

const files = process.argv.slice(2)
const redis = await provideRedis()
closeWithGrace(() => redis.stop())
console.log(`Redis: ${redis.how}`)
const env = { ...process.env, TEST_REDIS_URL: redis.url }
let tapCode = 1
try {
  rmSync(OUTPUT, { force: true })
  mkdirSync(dirname(OUTPUT), { recursive: true })
  tapCode = await run(['--coverage-report=json-summary', ...files], env)
} finally {
  await redis.stop()
}
const code = tapCode || (files.length === 0 ? checkCoverage() : 0)

const tap = readFileSync(OUTPUT, 'utf8')
const failures = failuresOf(tap)
if (failures.length > 0) console.log(['\nNot ok:', ...failures].join('\n'))
else if (tapCode !== 0) console.log(`\ntap ended with code ${tapCode}`)
const summary = /^# \{ total: \d+(?:, pass: (\d+))?(?:, fail: (\d+))?(?:, (?:skip|todo): \d+)* \}$/m.exec(tap)
const [passed, failed] = [Number(summary?.[1] ?? 0), Number(summary?.[2] ?? 0)]
console.log(`\n${passed} passed, ${code !== 0 && failed === 0 ? 1 : failed} failed`)
process.exit(code !== 0 || passed === 0 ? 1 : 0)
