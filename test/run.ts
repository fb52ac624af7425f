import { spawn } from 'node:child_process'
import { readFileSync, rmSync } from 'node:fs'
import closeWithGrace from 'close-with-grace'
import { provideRedis } from '../example/redis.js'

/*
 * `npm test [files or options of tap]`: gives all test files one Redis, runs them with tap, and ends with a plain line
 * that counts the assertions.
 */

const OUTPUT = '.tap/run.tap'
const COVERAGE = '.tap/report/coverage-summary.json'

function run (command: string, args: string[], env: NodeJS.ProcessEnv): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: 'inherit', env })
    child.once('error', reject)
    child.once('close', (code) => resolve(code ?? 1))
  })
}

/** Every line of the plugin is to be run by a test; V8 counts the brace after an endless loop as one that is not. */
const MIN_LINES = 99

function checkCoverage (): number {
  const summary = JSON.parse(readFileSync(COVERAGE, 'utf8')) as Record<string, { lines: { pct: number } }>
  const lacking = Object.entries(summary).filter(([file, { lines }]) => /[/\\]plugin[/\\]/.test(file) && lines.pct < MIN_LINES)
  for (const [file, { lines }] of lacking) console.log(`not covered: ${100 - lines.pct} % of the lines of ${file}`)
  return lacking.length > 0 ? 1 : 0
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
  tapCode = await run('tap', ['--reporter=base', `--output-file=${OUTPUT}`, '--coverage-report=json-summary', ...files], env)
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
