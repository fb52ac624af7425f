/** A finding of the doctor. */
export interface Finding {
  area: 'environment' | 'tooljet' | 'redis' | 'capacity'
  /** What was checked, like `token`. */
  name: string
  /** `note`: good to know; `problem`: has to be fixed; `unreachable`: nothing more can be checked there. */
  level: 'fine' | 'note' | 'problem' | 'unreachable'
  /** What was found; never a secret. */
  text: string
  /** What to do. */
  remedy?: string
}

export type Findings = AsyncGenerator<Finding>

/** Makes the findings of one area. */
export function findingsOf (area: Finding['area']) {
  const of = (level: Finding['level']) => (name: string, text: string, remedy?: string): Finding => ({ area, name, level, text, ...(remedy !== undefined && { remedy }) })
  return { fine: of('fine'), note: of('note'), problem: of('problem'), unreachable: of('unreachable') }
}
