const FIELD = /(?:"([^"]*(?:""[^"]*)*)"|([^",\r\n]*))(,|\r?\n|\r?$)/y

export interface CsvRecord {
  /** Line on which it begins, from 1. */
  line: number
  /** `undefined` for a line that is not CSV. */
  fields: string[] | undefined
}

/** Reads CSV as RFC 4180 has it; lines may end with LF alone. A line that is not CSV has no fields, and reading continues after it. */
export function * readCsv (text: string): Generator<CsvRecord> {
  let line = 1
  for (let start = 0; start < text.length;) {
    const { fields, end } = readRecord(text, start)
    yield { line, fields }
    for (let i = text.indexOf('\n', start); i !== -1 && i < end; i = text.indexOf('\n', i + 1)) line++
    start = end
  }
}

function readRecord (text: string, start: number): { fields: string[] | undefined, end: number } {
  const fields: string[] = []
  FIELD.lastIndex = start
  for (;;) {
    const [, quoted, plain, separator] = FIELD.exec(text) ?? []
    if (separator === undefined) return { fields: undefined, end: text.indexOf('\n', start) + 1 || text.length }
    fields.push(quoted?.replaceAll('""', '"') ?? plain!)
    if (separator !== ',') return { fields, end: FIELD.lastIndex }
  }
}
