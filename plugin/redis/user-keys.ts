/** The keys of one user, with one hash tag: one slot in Redis Cluster. */
export interface UserKeys {
  /** The hash of URLs, locks and outcomes. */
  urls: string
  /** Requests in the window. */
  limiter: string
  /** Mints in the window. */
  mints: string
}

/** @param userHash stands for the user; a key carries no e-mail */
export function userKeys (prefix: string, userHash: string): UserKeys {
  const tag = `{${prefix}${userHash}}:`
  return { urls: `${tag}urls`, limiter: `${tag}limit:requests`, mints: `${tag}limit:mints` }
}
