export function median (values: readonly number[]): number {
  return percentile(values, 50)
}

/** The value below which that many percent of them are; between two of them for an even median. */
export function percentile (values: readonly number[], percent: number): number {
  const sorted = Float64Array.from(values).sort()
  const at = (sorted.length - 1) * percent / 100
  const below = sorted[Math.floor(at)] ?? NaN
  const above = sorted[Math.ceil(at)] ?? NaN
  return below + (above - below) * (at - Math.floor(at))
}

/** The median of each figure. */
export function medians<T extends Record<keyof T, number>> (rounds: readonly T[]): T {
  const names = Object.keys(rounds[0]!) as (keyof T)[]
  return Object.fromEntries(names.map((name) => [name, median(rounds.map((round) => round[name]))])) as T
}

/** Rotates a list, so that each item is first in some round: a machine's pace changes with time. */
export function rotated<T> (list: readonly T[], by: number): T[] {
  const at = by % list.length
  return [...list.slice(at), ...list.slice(0, at)]
}

/** A number with three digits or so, for tables. */
export function format (value: number): string {
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2
  return value.toFixed(digits).replace(/\B(?=(\d{3})+$)/g, ',')
}
