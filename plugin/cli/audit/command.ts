import type { Connection } from '../connection.js'
import type { ParsedOptions, OptionName } from '../options.js'
import type { Output } from '../output.js'

/** Parsed options, output and connection of a command. */
export interface Context {
  given: ParsedOptions
  stream: string
  out: Output
  env: NodeJS.ProcessEnv
  /** @param isPatient whether to wait without limit for a lost connection */
  connect: (isPatient?: boolean) => Promise<Connection>
  /** Returns a signal that is aborted on Ctrl-C; without a call, Ctrl-C ends the program at once. */
  interrupted: () => AbortSignal
}

export interface Command {
  summary: string
  about: string
  options: readonly OptionName[]
  /** The first one is shown in the overall help. */
  examples: readonly { what: string, line: string }[]
  /** Imports what this command needs. @returns a function that runs it and returns the exit code */
  load: () => Promise<(context: Context) => Promise<number>>
}
