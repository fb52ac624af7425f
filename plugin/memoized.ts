/**
 * The function with its results kept, those of at most `max` texts: for what is costly and depends on nothing else.
 * @param of a result that is `undefined` is not kept
 */
export function memoized<V> (max: number, of: (text: string) => V): (text: string) => V {
  const known = new Map<string, V>()
  return (text) => {
    let value = known.get(text)
    if (value !== undefined) return value
    value = of(text)
    if (known.size >= max) known.clear() // to know which one was used last would cost more than it saves
    if (value !== undefined) known.set(text, value)
    return value
  }
}
