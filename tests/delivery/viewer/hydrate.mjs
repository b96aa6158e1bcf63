// Read a structured report as OHIF does, and print one line of JSON: a tool's name -> what it would draw.
// node hydrate.mjs REPORT [SAVED]: with SAVED, write the same annotations as a new report, as "save" does there.
import fs from "node:fs";
import dcmjs from "dcmjs";
import { metaData } from "@cornerstonejs/core";
import { adaptersSR } from "@cornerstonejs/adapters";

const { DicomMessage, DicomMetaDictionary } = dcmjs.data;
const [reportPath, savedPath] = process.argv.slice(2);
const { MeasurementReport } = adaptersSR.Cornerstone3D;

function read(path) {
  const file = DicomMessage.readFile(fs.readFileSync(path).buffer);
  const dataset = DicomMetaDictionary.naturalizeDataset(file.dict);
  dataset._meta = DicomMetaDictionary.namifyDataset(file.meta);
  return dataset;
}

const report = read(reportPath);
const evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0];
const { ReferencedSOPClassUID, ReferencedSOPInstanceUID } = evidence.ReferencedSOPSequence[0];
const instance = {
  ...report,
  SOPClassUID: ReferencedSOPClassUID,
  SOPInstanceUID: ReferencedSOPInstanceUID,
  SeriesInstanceUID: evidence.SeriesInstanceUID,
};
// A plane of one millimeter a pixel: world coordinates are the image's.
const modules = {
  imagePlaneModule: {
    rowCosines: [1, 0, 0],
    columnCosines: [0, 1, 0],
    imagePositionPatient: [0, 0, 0],
    rowPixelSpacing: 1,
    columnPixelSpacing: 1,
    frameOfReferenceUID: "1.2.3",
  },
  sopCommonModule: { sopInstanceUID: ReferencedSOPInstanceUID, sopClassUID: ReferencedSOPClassUID },
  instance,
};
const imageId = "image:1";
const provider = { get: (type) => modules[type] };
metaData.addProvider((type) => modules[type], 1);
const map = { [`${ReferencedSOPInstanceUID}:1`]: imageId };
const state = MeasurementReport.generateToolState(report, map, provider);

const drawn = Object.fromEntries(
  Object.entries(state).map(([tool, items]) => [
    tool,
    items.map((item) => ({
      points: item.annotation.data.handles.points,
      finding: item.finding?.CodeMeaning,
      label: item.annotation.data.label,
      uid: item.TrackingUniqueIdentifier,
    })),
  ]),
);
console.log(JSON.stringify(drawn));

if (savedPath) {
  const tools = { RectangleROI: { data: state.RectangleROI.map((item) => ({ ...item, ...item.annotation })) } };
  const saved = MeasurementReport.generateReport({ [imageId]: tools }, provider, {});
  fs.writeFileSync(savedPath, Buffer.from(dcmjs.data.datasetToDict(saved.dataset).write()));
}
