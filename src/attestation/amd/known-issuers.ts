import { createPublicKey, type KeyObject } from "node:crypto";
import type { AmdProduct, AmdRole } from "./products.ts";

/** A certificate authority of AMD's PKI, whether from a certificate or from the table below. */
export interface AmdIssuer {
  readonly product: AmdProduct;
  readonly role: AmdRole;
  readonly commonName: string;
  /** Lower-case hex without leading zeros. */
  readonly serial: string;
  /** Milliseconds since the epoch. */
  readonly notBefore: number;
  readonly notAfter: number;
  /** SHA-256 of the certificate, lower-case hex. */
  readonly fingerprint: string;
  readonly publicKey: KeyObject;
}

interface IssuerRow {
  readonly product: AmdProduct;
  readonly role: AmdRole;
  readonly commonName: string;
  readonly serial: string;
  readonly notBefore: string;
  readonly notAfter: string;
  readonly fingerprint: string;
  /** Modulus of the RSA-4096 key, base64url; the exponent is 65537. */
  readonly modulus: string;
}

/**
 * AMD's certificate authorities by product: the public key and the facts of each certificate, so that a report verifies
 * offline with nothing but its VCEK or VLEK. The ARKs are what is trusted; the others were signed by them.
 * Source: the certificates that `https://kdsintf.amd.com/{vcek,vlek}/v1/{product}/cert_chain` serves; hashes in reference C 2.5.
 */
const issuerRows: readonly IssuerRow[] = [
  {
    product: "Milan",
    role: "ark",
    commonName: "ARK-Milan",
    serial: "10000",
    notBefore: "2020-10-22T17:23:05Z",
    notAfter: "2045-10-22T17:23:05Z",
    fingerprint: "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd",
    modulus:
      "0Ld52RJOdeiJlqK2JdsVmD7FktuotWwX1fNgW41XY9Xz1HEhSUmhLz9Cu9DHRlvgJSNxbeYYsnJfvyjx1MfU0V5tkKiU1EesNFta1kTA0szNisdYc9isqk7mXT5-KfGRbfc4V_9zRIcE8jlHN61S1ju8X93-6dxDUrG2SzxqJ4BhqyYmUDruPXJSX4vUc01P7j98MpqOS95rORdGHeI52Naz5m2B-O-vjsC060d37jY9LFeuOP4Meri8qgfi2S5kKqg_aF6aPtuAZQVR7u3KFYXP59XmJgtcog05gmI0T_OitLhuzVvpZcLph0odh_1IPXqx3-MnjD97A7fXpqGd_y8KxX7jksTEzAOgbKAeam3lm-3yKIcTYMlsRMXPcjNbIvmsBykD__xSniusuHBkgnlENEWx1UcbQQrs-gVDkuVPhsnzIRNgYvM48Y-7LGiJYnrmE8xcrexekBxrva2V9TJQqnN3Q53kt5viQi3-gCfmkwC0F0tirIZbLkXPrPwzZ0M9eNxhIySb2npJfgnqz55I0u33wh4r0ZNQeTGfw03MBUtyuzGesGkcw-loqMaq1qR4tjGbPYxCvpCq7-OgpCCoMNit2uLo9M18fHz10lOMT8nWAUvRZFzteXCm-7PHdYPlmQwUw3LvenJ_ILXoQPHfbkH0CyPfhl1jWhJFZas",
  },
  {
    product: "Milan",
    role: "ask",
    commonName: "SEV-Milan",
    serial: "10001",
    notBefore: "2020-10-22T18:24:20Z",
    notAfter: "2045-10-22T18:24:20Z",
    fingerprint: "67d303bd3905fd38db8b20e0793699870e7fa612eaad5dec358293fd8c0bac1b",
    modulus:
      "nU2drrNTfbhNQIllf-W2y-ROCbSzId1aKZft2T9zjZQOzjGccl17i1mIKWl7NTcB0VYXt3JxZSzOZjsjLNVAEN2MGj9TiedL-QewKZX0JmQEuYjm-WKksLtxgdLp9E7EZNwNDqV1r0qRP5tB8OWkyQbIdLeu4aCz7j_Sl1FkBytev9sbFGzt7cwnjzi9m7noqsk-uRVBp3-In35QPdcj8YflEmnHBNvuUDJhLCJMW8KOjP6--Phbs3iCitJcANEtW4qTNFoKW3CHlbcSCjTM8KsNbUx3A8ek5EVLjZWH1pt9E3TfpR6XyfQKnY6kl5aEIPwdW3eFYaqCFPrIo9pQT6WuDSP4JCYJbZneKKIbZjzXkJt3NQG32EukYImBb9SCkm9-fS5LZFg9ojzubMX3-NkBoSXI7OPvnHMxjup9mw5se6QUV7GqpCA2TNypolmuQ-cAaxV7JqHE8dl9pWf-Y3arb-9iiFCwFt4lAlJw5D0CTRTC1Y5YWFDBCrA_vGnmTnqG8C-jjUAS7cjjR8q4OPhyDmJRPnaC_ZG5uP0K0z6GoO_3uen9wqshCuHegLTpOeHEJRKrQFr4PVIwVOB0-ebO5FgoyOw43nyFD5UKBDxEB4BKo_0uAiKHLRvvgLbORbU8KARIs1EoqEjmF8UtrmQWV2hUjwzqwvHFei8rPxM",
  },
  {
    product: "Milan",
    role: "asvk",
    commonName: "SEV-VLEK-Milan",
    serial: "10101",
    notBefore: "2022-11-16T22:45:24Z",
    notAfter: "2047-11-16T22:45:24Z",
    fingerprint: "c5e081f59b7efab1fe2f8b505e159704e72f29cab7ef7cf628a05a42439082f5",
    modulus:
      "1EUWkz5FTPz-uWT2hCEyisam8FRuXZAmS3l-rXgSCeS1Q0-1olcnFSJpiwfssfhoutJqePyicu-OhkX131PMeO_VOtH3upK4YNJmq36IJp7ZWIm5nK2fJNkYEHW0m_NXcIA9U2iHl5bAQ5cbGp97_FaOJ4VmGoTMV658Yox_plFmZRFfRcsw2hyNhqUl1gzdpnIIgPkygUovFEgaa0IVSgGLHQhZQiebNLLSVWRVReve0t94zlRIRRdrz84cckP9H9DTAUMyQaxSZbPINKbV6TPmtrwAV9UP1Qq418xn9I-C0SsWutP_5S1OiL8OTzQ4CvgbHOfd2F3yVv4xDBza4SelF2igoDf-BF4XI_IIHJL2N5uKy3-gkSB2Xl6prohgVmqRFvBW9OTCEa32WhXu0t1Z1abEKDZ3LpZt9_Crg6zyPpXDLR_tLHHpSaPRj7CTzHieKMTz-Q6RrCCQcHGfaAD_ETNY56aHvNJRZgbzXDUJvnLr3dYyOvvn_DtKhCSimJynn7Len4ArDVQVwXRPe3hR_asCE2CajT7kGC1AOtUzQuIKZS2D0Qk74g297JhLHpEBlQiyjRJ-LCWZNx9uJcixGyzav6fiOWx4U8uWhRzHs8nvDAdcS4LW31tPlA9BeOK_BGimQTu7hM5MDFZL0C9dWK5puCUJex6I2vSqvyc",
  },
  {
    product: "Genoa",
    role: "ark",
    commonName: "ARK-Genoa",
    serial: "20000",
    notBefore: "2022-01-26T15:34:37Z",
    notAfter: "2047-01-26T15:34:37Z",
    fingerprint: "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1",
    modulus:
      "3Cd95S_uFOuRIskW9vz9VDBF69NDQF79oRhL_L2PVQGhK3YdfEBgpF_JiwWFBsT_fXDhzA01p3LkcT_7LdjcRfKXjHl-0Qq_M4dZkh6QDoUeKzNBLDcBKDDGWo3v35NyrxbA1DnkYwUKU5AAk4P94tKXLp80oxt84ahyHoLmc_LqsGsp-oq1Bz4PPsYLwTG4iMKVaaT90_oZ4I8oibSru92vJhlqWO27d_Rxc3iUMyhNeGToOvgx_iUo4gGpG61NDpkEUvIzuKcaMx8IdTpWg2DF6SwF0IgVMffnvtJmA68BwJNWo1E4PLJdaPfBifcJpuBFwNVQIPQEVX3aP89HJSp8YbY9lySS6PlVEqTBBtaQmi4ATGmMR-n2K_e-JAhU2Gj7jIpJhOkdH9firQDnmlA2SFfJ_Cc0mGNzW9RmIhyOUnNFoclmkRhl3_AQU5Ys9Qsan1jT_EiyT-pCpmnA-y9edvhDCbOG8F2oxHGRdTBkylungrkXJGYiwGrR8kaiqv7NN8QhOBMqYjcbrkEr0f8QMKklIS5ruOfqlLMCBw8JLB3LkjpWgtD7OpxkzSsohN47Uom86RY6lp72g8eXHP1qYrnvhzaG1S70vw6OkbaaC9EjiH_uHgAJQGxon7u0Q7xgoREWA_e7JcBQwLg80Hq_sbRuqesxz7wBWSY254c",
  },
  {
    product: "Genoa",
    role: "ask",
    commonName: "SEV-Genoa",
    serial: "20002",
    notBefore: "2022-10-31T13:33:48Z",
    notAfter: "2047-10-31T13:33:48Z",
    fingerprint: "5464738c1546aed5f2cecf1dc98c5c960a92e8913238a61711bc90ec6e828521",
    modulus:
      "oHJhvk4Fwwkwb03AMfLySXJSXmEaCZMTRbLgPaj4oEzaD9tGfxCSw_nsCAiXHQaWUt--bnbjJO05TKT5d-Cdrz4_fiRBpbhf0xzvh11O-wJTBPj3uCzDm48vEZ8l5SXMO4wd_QqwsrejFERPD_Hdfv1mGCMW7ac0ug8trDzqGe-l-p8NMjp_EqBDY2vd8hLaVLmS-XjAqlYVNRksh9aTzSYL19_cTrBDmqQ2y8k23zNl2lW6q_BtQOpWGVs3EWvBHb_Qnf3f3S9-lC4H2jdDy9yn7kqyTWq4WCBnE4qhYJRokulYtzMZM1Ilk4Z6RPkOTR1MJ4gdFtj7lKmrkSuOoJYmqhJIsQJ854lAbJybgU7zyzWAwu3uaslkYKUEAQf2ja5Hyl3IBqOzpqY31SpKzbl8NXveZybRMklwfe4iDLI25T9ku9CVetDYifCbdGeuHdTwZBBemW4NE57L7iEV8-zz8nxng8OMX__4pXntWqmQbEAnBLv2ToTgd1H2zYRthyDLc3V119_-FnTW17LK6bKzTCgEnCHQEcAt0hDQLLF799-2lZTxxfBEoduAZax6IjgAMCi6e1ZfKPJSkdvb2m3BwfP8bniG7-AEJv1WOEmnBJc1pVQCttbJUodbi07Vfen5JRUqAvSM3ObWQOzSAGzsGnpIigwFpW6m9F7uYVU",
  },
  {
    product: "Genoa",
    role: "asvk",
    commonName: "SEV-VLEK-Genoa",
    serial: "20101",
    notBefore: "2022-11-18T20:48:34Z",
    notAfter: "2047-11-18T20:48:34Z",
    fingerprint: "197e610743a917d6b9bb982a5a9226ccc0a15b611be0619e626aca9151457372",
    modulus:
      "zL2_xihHscEpxS3-OsQZpAuNIJGSEQZrkoWPtqKMjjZOyXMMRHAheTm56Ei0Mb8TJZlbGDS5x_AdbowstGmpHqh2zvSvjZO7V4v6Ft84p71P6GXfOVEQgCuatiszfIwFrRQk_cmU7HuJadBq6XtYE-qBJMjus8C0WwW_IWY9j6pNbEA1SnUvVg6t89zfE-AcB5UDCKq09x7qw-rPt9pTpEch0f1bHdRFJlpgWGTq02ohH9bT-6au8kPpvMa3m2p8zdIIqtuuSG6srIimrpt24lsr4tLhQG65R_RbVJT9MsK4ULpbAUO5NwdlLwbnpLWHiUwoYrySMD8l3xRDvhPmInlXEFEo8lahcYllxiJJR8oqqA6x3jPFKmkfhEgaQefcn4P8nA4SScqAoLihn75iiDtU2-ZlkPnKgcNs5U1Le441ypen2n7BOnRyhmwyAUBGk3OcMXHsJ6KGpDJyTVCaC3fWX3ex4Iv4LkuKRA6O9yu3zHP23N_ubE8_YykffIjMbtBoOAzdWCn9lE4amo4VZ-8ewIutZAYmC5TIQO-wWUqKYr0iAobccMnZdJjUORjVoqVQ-dLr-_1otk36gfPc0LpmhWZKfAXF9sgvYtQjcaR9wlGr8ySRtZ2YJWofuR7zgYFJPEXRwAnbAR_05hBmog7CMt1F9YKSmku6JfRecY8",
  },
  {
    product: "Turin",
    role: "ark",
    commonName: "ARK-Turin",
    serial: "30000",
    notBefore: "2023-05-15T20:03:12Z",
    notAfter: "2048-05-15T20:03:12Z",
    fingerprint: "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a",
    modulus:
      "waAriB7EIuVc4ZB1wD3YfDxL-9eyS7-izm0Jj3W772NINCWl8Bj3w_JD2ZjmbRxWdIq_4d9iarCKorXloJUB1jRdgxqccTx1aOoig4-2w1XhVVJT7K457wT5ZLNJgQaxqa9Etkwjd6-9sOhlCDE9l43kQ0R2BikVJa_uyyVOSwEk5w5tXKOuG9jvq6QtAMJasW38wlqRDaKEGtZ9VUgGon27ZuL4sTJuC_azz9_iQBw8kEilzOl95AiTkeY5jSEBDWbAqnZk5qlM7kISKG20kgQm14mhNKDI2p2oua-zuAG7i52epoRF2GfU0TYk_yf-vCNB2tnechFQuP2e8bLk95ZdqPi9_UWw4JXjtdEA4u2JYplSSUPQVAXKt6LVqujtJcM59JKr2u0XQ75KwxcMp15gSXhBfInvPAwuAY4dEwwGqT8oIg4esPHwEsmChhYeDIxPG9R4fx9O0q6p8Gb-HXlTiS47P9YNeOpidOUKzDl_S1OvyhDtSL8LJc24QATFydo_iD_KUdvFTRlD0crkAMkZLoWQ8hLDGc6BZJXsdd7Zf2e4UW3tI_1oh_2t23Ot3zyhTcv5gDbABu0LjVe98uRnS15SMwK__lJt9e5BqKvgABkSoABf-B4VFtPVEX0ygrYaFaI9i5ABrxnVBmzXpRb21iI1NlNCfOGUPIhVpWE",
  },
  {
    product: "Turin",
    role: "ask",
    commonName: "SEV-Turin",
    serial: "30001",
    notBefore: "2023-05-15T20:25:21Z",
    notAfter: "2048-05-15T20:25:21Z",
    fingerprint: "5b77ef5fe7a7a004fd9032668fba9d0fda22f88c4442069a479636a6ae3b3185",
    modulus:
      "nvg5Grv2Emd9lAhKdO64RXU3UESb6JTm0Hhzevx1PyxinxYqJL329qTJM0XmdozLYb7rsHxgM5I2pU18M8gect2pN_YB2LQ1_bIq37TPDbg7ym0MN6KkZ6aERxAX0voYtdDyNxjDAUjpRpCe1FccAev_Es2n_Fz1G1TmC2XepTQqaKpmt6mnDWSCHCVsQoY0gSibeaG6doM6OiNUCbKXaC7KHH5b_96BD1DJ84M-JHqPClFhHqUJwzKF5Qxj4wgWAZzK8UPhiNGjrF6-TBdlFGdSzEqw1jOrCTHduYyLK-5OQ3OIw4S-vZeOVoxJajTIWdsqYP2DLc0HkL0qWOumEOrrc2_4DeETShB0MyIpH05kSalyQN2eN5P6ptOB84hddCdbJPEepnD-FqQap1ukw3K8uBcgeBSAF23r6UtT8Uc5h7MsWX3MoZiEHcSkDQQ8IedTk7CLjsK6S7b_lfKqfYiRhKgGkRvsEd_MDNcumHZKIgzasJwgagzSggiUo9jXp3EWm84fqyxNXzSutPB7qD5P_ULAB-q9QgvrzC8XneaLP0MNrHhM80UejmsBTIktMvFoWVIelYDLdcoi0eMD5DRccfsgrYaY6h_-_qf9tgg-mX09UJpuSPRF38oyqnNNFMl5v_tWLgUsChPU6NCQC17Qaqr8mu2ynyyuHEs5JVU",
  },
  {
    product: "Turin",
    role: "asvk",
    commonName: "SEV-VLEK-Turin",
    serial: "30101",
    notBefore: "2023-05-15T21:09:41Z",
    notAfter: "2048-05-15T21:09:41Z",
    fingerprint: "104e10a8bd060a3c20a434261a57d0588fd65a88915b4f65b08bdecaf8df1a3c",
    modulus:
      "pjrui4l0ZogEh0fDdVfJ4unowGGolk2wXyzjbjC_fnqlhFqiFj1JSKdkYSvzPVfgDR0MU2WLlytrAGqOHYBdk4Moz3xHTXJus75Nef0EBZpGk9M4PQGF-nTqYi-hDguq14wQUEltN9wGunnUeaMz0e6hfCasDevkypILMponvTvaM49RAipCvTgmPRTkQA8hjl3tA6R7S_HKTn6_Q3T74A0BfygK49LLkdHF05Wo0pZ9qmPyhi0Rh9epY0L-_T2e17fohWcCavgE-KF5GO5XINzunwKolCCyH3930iAmb1vv5v4PimnGsfH4ic4kIApR1hZApU3YG3qUE84qkb5SEASQsTZCT0Jv_AxC9So5h2wraVzWz6GvpPHEtRKvue5vehkwPjFipJMT5Z7CmNuXc-0lcVSZMHSbswFSHKKtp4F0UDoPnuIWw_djGDjkGXS9W5M2N3zVSbn94cJxCMzOTzILhcX_lJatooslfxvqucFH8PpS9xBMhuN4fTPlNk_oVbQ6w8pxEMibo0K8Q-gOqqzdVm6i7jotobsuYxH1Httjsc61vSskSDT4JkPjqTWiyOmsFI-6Ob_hya_fqpe0EPy68TPk85COC7uqNMzu58xb0uAtt0beejDx29mRRbiPNL5tnwK9KFmZDpeZWSZgzvn2K-SQTK80ZKn8Yq2SKfU",
  },
];

const publicExponent = "AQAB";

function issuerOf(row: IssuerRow): AmdIssuer {
  let key: KeyObject | undefined;
  const { modulus, notBefore, notAfter, ...facts } = row;
  return {
    ...facts,
    notBefore: Date.parse(notBefore),
    notAfter: Date.parse(notAfter),
    get publicKey() {
      key ??= createPublicKey({ key: { kty: "RSA", n: modulus, e: publicExponent }, format: "jwk" });
      return key;
    },
  };
}

/** The three pinned AMD root keys. */
export function amdRoots(): readonly AmdIssuer[] {
  return issuerRows.filter(({ role }) => role === "ark").map(issuerOf);
}

/** The intermediate that AMD's own chain uses for a product and kind of endorsement key. */
export function knownIntermediate(product: AmdProduct, role: "ask" | "asvk"): AmdIssuer | undefined {
  const row = issuerRows.find((candidate) => candidate.product === product && candidate.role === role);
  return row === undefined ? undefined : issuerOf(row);
}
