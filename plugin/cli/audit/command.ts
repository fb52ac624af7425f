import type { Connection } from '../connection.js'
import type { ParsedOptions, OptionName } from '../options.js'
import type { Output } from '../output.js'

/** What a command works with. */
export interface Context {
  given: ParsedOptions
  stream: string
  out: Output
  env: NodeJS.ProcessEnv
  /** @param isPatient whether to wait for ever for a Redis that was there before */
  connect: (isPatient?: boolean) => Promise<Connection>
  /** Aborted when the program is asked to end; who does not call this ends at once. */
  interrupted: () => AbortSignal
}

export interface Command {
  summary: string
  about: string
  options: readonly OptionName[]
  /** The first one is shown in the overall help. */
  examples: readonly { what: string, line: string }[]
  /** Loads only what this command needs. @returns what runs it and gives the exit code */
  load: () => Promise<(context: Context) => Promise<number>>
}
