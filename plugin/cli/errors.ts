/** Exit codes. */
export const EXIT = {
  fine: 0,
  /** `verify` found something. */
  notIntact: 1,
  /** The doctor found something. */
  found: 1,
  /** Some pairs could not be warmed. */
  failed: 1,
  usage: 2,
  unreachable: 3,
  /** A defect of the program: `EX_SOFTWARE` of sysexits.h. */
  unexpected: 70,
  /** As shells have it for a program that Ctrl-C has ended. */
  stopped: 130,
} as const

/** Wrong usage of the program; the message is for people. */
export class UsageError extends Error {
  /** @param command the command whose `--help` is suggested */
  constructor (message: string, readonly command?: string, options?: ErrorOptions) {
    super(message, options)
  }
}

/** A server cannot be reached, or refuses; the message is for people and holds no password. */
export class UnreachableError extends Error {}

/** Redis cannot be reached, or refuses. */
export class RedisError extends UnreachableError {}

/** The message for a defect of the program, on one line. */
export function unexpected (program: string, error: unknown): string {
  return `${program}: unexpected error: ${error instanceof Error ? `${error.name}: ${error.message}` : String(error)}`
}

/** The error for a file that cannot be used. */
export function fileError (file: string, error: unknown): UsageError {
  return new UsageError(`${file}: ${error instanceof Error ? error.message : String(error)}`, undefined, { cause: error })
}
