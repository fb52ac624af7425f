const MAX_LENGTH = 256
/** A token that begins in what is kept is seen as a whole; more would be work that a client can make us do. */
const LOOKED_AT = 4 * MAX_LENGTH
// A header can hold anything, a token pasted by mistake too.
const SECRETS = /pat_[0-9a-z]{8,}|eyJ[\w-]{8,}\.[\w-]+\.[\w-]*/gi

/** Text that a client or the host chose, fit to be told: of bounded length, and without what looks like a token. */
export function foreign (text: string | undefined): string | undefined {
  return text?.slice(0, LOOKED_AT).replace(SECRETS, '[redacted]').slice(0, MAX_LENGTH)
}
