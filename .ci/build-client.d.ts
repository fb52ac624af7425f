/** Builds the browser module from its sources. @param folder dist/browser by default. @throws when it is too large */
export function buildClient (folder?: string): { bytes: number, gzipped: number }
