import { RedisError, UsageError } from '../errors.js'

/** Errors of the queries inside Redis about an argument. */
const WRONG_ARGUMENT = /^ERR tooljet_audit(?:_stats)?: (?<problem>.*?)(?:; usage: .*)?$/s

/** Converts an error reply of Redis to one of the command line. */
export function explainReply (error: Error, command: string): UsageError | RedisError {
  const problem = WRONG_ARGUMENT.exec(error.message)?.groups?.['problem']
  if (problem === undefined) return new RedisError(`Redis refuses: ${error.message}`, { cause: error })
  const inOptions = problem.replace(/argument "(\w+)"/, (_, name: string) => `--${name.replace('_', '-')}`)
  return new UsageError(inOptions, command, { cause: error })
}
