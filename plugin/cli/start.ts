import { writeSync } from 'node:fs'
import type { Program } from './run-program.js'

/** As in `EXIT.unexpected`: Node's own code would be 1, which has a meaning of its own. */
const UNEXPECTED = 70
/** As in `EXIT.unreachable`. */
const NO_ANSWER = 3
/** A parent process such as npx may pass on a Ctrl-C that the terminal has sent to both. */
const SAME_SIGNAL_MS = 500

/**
 * Runs a program as this process.
 * @param load imports the program, so that an error of a module is reported like any other
 * @param noAnswer message when the event loop is empty before the program has ended
 */
export async function start (name: string, noAnswer: string, load: () => Promise<Program>): Promise<void> {
  let hasEnded = false

  process.on('uncaughtException', (error: unknown) => {
    const [reason] = String(error).split('\n')
    writeSync(2, `${name}: unexpected error: ${reason}\n`)
    process.exit(UNEXPECTED)
  })
  // Node's own code would be 13
  process.once('beforeExit', () => {
    if (hasEnded) return
    writeSync(2, `${name}: ${noAnswer}\n`)
    process.exit(NO_ANSWER)
  })

  const run = await load()
  const { stdin, stdout, stderr, env } = process
  process.exitCode = await run(process.argv.slice(2), { stdin, stdout, stderr, env, interrupted })
  hasEnded = true
}

function interrupted (endsAtOnce?: number): AbortSignal {
  const controller = new AbortController()
  let since = Infinity
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      if (endsAtOnce !== undefined && performance.now() - since > SAME_SIGNAL_MS) process.exit(endsAtOnce)
      since = Math.min(since, performance.now())
      controller.abort()
    })
  }
  return controller.signal
}
