/** What the program ends with. */
export const EXIT = {
  fine: 0,
  /** `verify` found something. */
  notIntact: 1,
  usage: 2,
  redis: 3,
  /** A defect of the program: `EX_SOFTWARE` of sysexits.h. */
  unexpected: 70,
} as const

/** Something is wrong with how the program was called; the message is for people. */
export class UsageError extends Error {
  /** @param command whose help tells more */
  constructor (message: string, readonly command?: string, options?: ErrorOptions) {
    super(message, options)
  }
}

/** Redis cannot be reached, or refuses; the message is for people and holds no password. */
export class RedisError extends Error {}

/** What is said of a defect of the program, on one line. */
export function unexpected (error: unknown): string {
  return `tooljet-embed-audit: unexpected error: ${error instanceof Error ? `${error.name}: ${error.message}` : String(error)}`
}

/** A file that was named cannot be used. */
export function fileError (file: string, error: unknown): UsageError {
  return new UsageError(`${file}: ${error instanceof Error ? error.message : String(error)}`, undefined, { cause: error })
}
