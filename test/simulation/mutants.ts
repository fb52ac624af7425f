import type { Rewrite } from './server.js'

/** A fault put into the scripts' text, which the checker has to find. */
export interface ScriptMutant {
  name: string
  from: string
  to: string
  /** The promise that it breaks, as the checker calls it. */
  breaks: string
}

export const SCRIPT_MUTANTS: readonly ScriptMutant[] = [
  { name: 'no-lock', from: "if holder then\n  return { 'wait'", to: "if false then\n  return { 'wait'", breaks: '3 two at a time' },
  { name: 'old-over-new', from: "if redis.call('EXISTS', lock) == 1 then return 0 end", to: '', breaks: '3 not the last' },
  { name: 'forget-keeps', from: "if id ~= '' and redis.call('DEL', key(index, 'url', id)) == 1 then dropped = dropped + 1 end\n  redis.call('DEL', key(index, 'outcome', name))\n  redis.call('HDEL', index, name)", to: '', breaks: '9 forget' },
]

/** @throws for a name that there is not */
export function rewriteOf (name: string | undefined): Rewrite | undefined {
  if (name === undefined) return undefined
  const mutant = SCRIPT_MUTANTS.find((one) => one.name === name)
  if (mutant === undefined) throw new Error(`there is no mutant ${name}`)
  return (lua) => lua.replace(mutant.from, () => mutant.to)
}
