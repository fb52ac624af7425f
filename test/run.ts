import { spawn } from 'node:child_process'
import { readFileSync, rmSync } from 'node:fs'
import closeWithGrace from 'close-with-grace'
import { provideRedis } from '../example/redis.js'

/*
 * `npm test [files or options of tap]`: gives all test files one Redis, runs them with tap, and ends with a plain line
 * that counts the assertions.
 */

const OUTPUT = '.tap/run.tap'

function run (command: string, args: string[], env: NodeJS.ProcessEnv): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: 'inherit', env })
    child.once('error', reject)
    child.once('close', (code) => resolve(code ?? 1))
  })
}

const redis = await provideRedis()
closeWithGrace(() => redis.stop())
console.log(`Redis: ${redis.how}`)
const env = { ...process.env, TEST_REDIS_URL: redis.url }
let code = 1
try {
  rmSync(OUTPUT, { force: true })
  code = await run('tap', ['build'], env) // tap's own test class, without its TypeScript plugin: tsx does that
  code ||= await run('tap', [`--output-file=${OUTPUT}`, ...process.argv.slice(2)], env)
} finally {
  await redis.stop()
}

const summary = /^# \{ total: \d+(?:, pass: (\d+))?(?:, fail: (\d+))?(?:, (?:skip|todo): \d+)* \}$/m.exec(readFileSync(OUTPUT, 'utf8'))
const [passed, failed] = [Number(summary?.[1] ?? 0), Number(summary?.[2] ?? 0)]
process.exitCode = code !== 0 || passed === 0 ? 1 : 0
console.log(`\n${passed} passed, ${code !== 0 && failed === 0 ? 1 : failed} failed`)
