import { setTimeout as sleep } from 'node:timers/promises'

/** Waits until a condition holds. @param withinMs when it is given up, which says no more than that it never came: a busy machine takes its time */
export async function until<T> (what: string, condition: () => T | Promise<T>, withinMs = 30_000): Promise<NonNullable<T>> {
  const giveUpAt = performance.now() + withinMs
  for (;;) {
    const value = await condition()
    if (value) return value as NonNullable<T>
    if (performance.now() > giveUpAt) throw new Error(`waited ${withinMs} ms in vain: ${what}`)
    await sleep(5)
  }
}
