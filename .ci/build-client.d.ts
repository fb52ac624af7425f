/** Builds the browser module from its sources. @throws when it is too large */
export function buildClient (): { bytes: number, gzipped: number }
