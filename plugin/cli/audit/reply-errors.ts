import { RedisError, UsageError } from '../errors.js'

/** How the queries inside Redis tell what is wrong with an argument. */
const WRONG_ARGUMENT = /^ERR tooljet_audit(?:_stats)?: (?<problem>.*?)(?:; usage: .*)?$/s

/** An error that Redis has answered with, in the words of the command line. */
export function explainReply (error: Error, command: string): UsageError | RedisError {
  const problem = WRONG_ARGUMENT.exec(error.message)?.groups?.['problem']
  if (problem === undefined) return new RedisError(`Redis refuses: ${error.message}`, { cause: error })
  const inOptions = problem.replace(/argument "(\w+)"/, (_, name: string) => `--${name.replace('_', '-')}`)
  return new UsageError(inOptions, command, { cause: error })
}
