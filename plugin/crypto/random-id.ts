import { randomFillSync } from 'node:crypto'

/** Random bytes in reserve: one call of the generator costs as much for a hundred ids as for one. */
const pool = Buffer.alloc(4096)
let used = pool.length

/** A random id. @returns base64url, four characters for three bytes */
export function randomId (bytes = 12): string {
  if (used + bytes > pool.length) {
    randomFillSync(pool)
    used = 0
  }
  used += bytes
  return pool.toString('base64url', used - bytes, used)
}
